"""How a picture goes out: read here, or by the proxy in front, which is told no more than where it is.

Each way sends the same headers for all pictures. docs/deploy.md has the proxy's part.
"""

from pathlib import Path

from flask import Response

SENDERS = ("", "nginx", "apache")  # what the environment's SENDFILE may say
INTERNAL = "/served/"  # where nginx finds the folder; nobody can ask for it


def send_picture(folder: Path, key: str, sender: str) -> Response:
    """The answer that brings the picture of a key; no date and no tag that could tell pictures apart."""
    file = folder / f"{key}.png"
    response = Response(b"" if sender else file.read_bytes(), mimetype="image/png")
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    if sender == "nginx":
        response.headers["X-Accel-Redirect"] = f"{INTERNAL}{file.name}"
    elif sender == "apache":
        response.headers["X-Sendfile"] = str(file)
    return response
