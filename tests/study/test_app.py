from pathlib import Path

import pytest

from study.app import create_app


@pytest.mark.parametrize("key", [None, ""])
def test_no_app_without_a_secret(tmp_path: Path, key: str | None) -> None:
    with pytest.raises(RuntimeError, match="SECRET_KEY"):
        create_app({"STUDY": tmp_path, "SECRET_KEY": key})


def test_templates_and_static_files_are_found(tmp_path: Path) -> None:
    app = create_app({"STUDY": tmp_path, "SECRET_KEY": "k" * 16})
    assert "vote.html" in app.jinja_env.list_templates()
    assert app.static_folder
    assert (Path(app.static_folder) / "vote.js").exists()
    app.config["STORE"].close()
