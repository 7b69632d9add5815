import builtins

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from torch import nn

from generator.measure import scorers
from generator.measure.scorers import PickScorer, aq_map, cosines, open_clip_scorer, resized
from generator.measure.weights import WEIGHTS, WeightsError, found
from generator.metrics import ClipScorer
from generator.models import MODELS
from generator.shapes.networks import WEIGHTS as SHAPES_WEIGHTS

PICTURES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Words(nn.Module):
    """A CLIP whose features are known: a text is the sum of its words, a picture its mean colour."""

    def encode_text(self, texts, normalize):
        words = [[word.strip(".") for word in text.split()] for text in texts]
        rows = [[1e-3 + row.count(axis) for axis in ("dog", "cat", "red")] for row in words]
        return nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)

    def encode_image(self, pictures, normalize):
        return nn.functional.normalize(pictures.mean((2, 3)), dim=1)


class Texts(list):
    """What tokens are to `Words`: the texts as they are, on whatever device."""

    def to(self, device):
        return self


@pytest.fixture
def words(monkeypatch):
    monkeypatch.setattr(scorers, "resized", lambda scorer, pictures: pictures)
    monkeypatch.setattr("generator.metrics.normalised", lambda pictures: pictures)
    return ClipScorer(Words(), Texts, ("Good photo.", "Bad photo."))


def colours(*rows):
    return torch.tensor(rows, dtype=torch.float32)[:, :, None, None].expand(-1, -1, 4, 4)


def test_aq_map_by_hand(words):
    """Mean over nouns of sigmoid(10 f · (t(noun) − t("")))."""
    nouns = {"a dog and a cat": ["dog", "cat"], "red": []}.get
    found_ = aq_map(words, nouns, colours((1, 0, 0), (0, 0, 1)), ["a dog and a cat", "red"])
    f = np.array([1.0, 0, 0])
    empty = np.full(3, 3**-0.5)
    dog, cat = (np.array(v) / np.linalg.norm(v) for v in ([1.001, 1e-3, 1e-3], [1e-3, 1.001, 1e-3]))
    each = [1 / (1 + np.exp(-10 * f @ (noun - empty))) for noun in (dog, cat)]
    assert found_[0] == pytest.approx(np.mean(each), abs=1e-4)
    assert np.isnan(found_[1])


def test_hps_is_the_cosine(words):
    found_ = cosines(words, colours((1, 0, 0), (0, 3, 4)), ["dog", "cat"])
    assert found_ == pytest.approx([1, 0.6], abs=0.01)


def test_a_checkpoint_is_loaded_by_architecture(monkeypatch):
    """The judge of the shapes world as if it were a published CLIP."""
    judge = MODELS["shapes"].scorer("judge")  # makes its architecture known to open_clip
    monkeypatch.setattr("open_clip.get_tokenizer", lambda _: judge.tokenize)
    file = SHAPES_WEIGHTS / "judge.safetensors"
    loaded, text = open_clip_scorer("shapes-judge", file), ["a red circle", "a blue star"]
    assert cosines(loaded, PICTURES, text) == pytest.approx(cosines(judge, PICTURES, text), abs=1e-6)
    with pytest.raises(WeightsError, match=r"clip\.safetensors: not of shapes-judge"):
        open_clip_scorer("shapes-judge", SHAPES_WEIGHTS / "clip.safetensors")


def test_pictures_are_resized_as_open_clip_does():
    scorer = MODELS["shapes"].scorer("clip")
    assert resized(scorer, PICTURES) is PICTURES
    coarse = torch.rand(1, 3, 6, 10, generator=torch.Generator().manual_seed(1))
    wide = nn.functional.interpolate(coarse, (96, 160), mode="bilinear")
    own = image_transform(64, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    picture = Image.fromarray((wide[0].permute(1, 2, 0) * 255).round().byte().numpy())
    assert (resized(scorer, wide)[0] - own(picture)).abs().max() < 0.02  # Pillow rounds to bytes on the way


def test_pickscore_is_the_scaled_cosine_of_its_model(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        PreTrainedTokenizerFast,
    )

    text = {"vocab_size": 8, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 8, "eos_token_id": 7}
    seen = {"image_size": 32, "patch_size": 16, "hidden_size": 16, "intermediate_size": 16}
    seen |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=seen, projection_dim=8)).eval()
    names = ["<pad>", "a", "dog", "cat", "red", "blue", "<unk>", "<eos>"]
    vocabulary = {word: i for i, word in enumerate(names)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "<unk>")),
        pad_token="<pad>",  # noqa: S106 - a token of text
    )
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    model.save_pretrained(tmp_path)
    CLIPProcessor(images, tokenizer).save_pretrained(tmp_path)
    scorer = PickScorer.of_folder(tmp_path)
    found_ = scorer(PICTURES, ["dog", "cat"])
    pixels = scorer.processor.image_processor(
        [(p.permute(1, 2, 0) * 255).round().byte().numpy() for p in PICTURES], return_tensors="pt"
    )
    with torch.no_grad():
        outputs = model(pixel_values=pixels.pixel_values, input_ids=torch.tensor([[2], [3]]))
    cosine = (outputs.image_embeds * outputs.text_embeds).sum(1)
    assert found_ == pytest.approx((model.logit_scale.exp() * cosine).detach().numpy(), rel=1e-4)
    with pytest.raises(WeightsError, match="not a CLIP of transformers"):
        PickScorer.of_folder(tmp_path / "none")


def test_maniqa_is_pyiqas_without_a_download(tmp_path, monkeypatch):
    """Too large for a test: what is checked is that its trunk is not fetched, and how it is called."""
    pyiqa, timm = pytest.importorskip("pyiqa"), pytest.importorskip("timm")
    made = []

    def create(name, device, pretrained_model_path):
        made.append((name, pretrained_model_path))
        assert timm.create_model("test_vit", pretrained=True).pretrained_cfg["architecture"] == "test_vit"
        return lambda picture: picture.mean() + torch.rand(())

    monkeypatch.setattr(pyiqa, "create_metric", create)
    score = scorers.maniqa(tmp_path / "x.pth")
    assert made == [("maniqa-pipal", str(tmp_path / "x.pth"))]
    assert score(PICTURES) == pytest.approx(score(PICTURES))  # its crops are the same each time
    assert len(score(PICTURES)) == 2


def test_what_is_missing_is_told_with_its_source(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=r"HPS_v2.1_compressed.pt: give its folder .* it is hf"):
        found(None, "hpsv2.1")
    (tmp_path / WEIGHTS["alexnet"].file).touch()
    assert found(tmp_path, "alexnet") == [tmp_path / WEIGHTS["alexnet"].file]
    with pytest.raises(WeightsError, match=r"alex\.pth: not in .*; it is github"):
        found(tmp_path, "alexnet", "lpips")
    own = builtins.__import__

    def without_spacy(name, *rest):
        if name in ("spacy", "pyiqa"):
            raise ImportError(name)
        return own(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_spacy)
    with pytest.raises(WeightsError, match=r"AQ-MAP .*spaCy"):
        scorers.spacy_nouns()
    with pytest.raises(WeightsError, match="MANIQA needs pyiqa"):
        scorers.maniqa(tmp_path)
