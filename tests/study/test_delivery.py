import hashlib
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from study.schema import Assignment, ImageRow
from study.server import listen

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def shown(app: Flask, trial: dict[str, Any], side: str) -> ImageRow:
    with app.config["STORE"].read() as session:
        trial_row = session.get(Assignment, trial["id"])
        return session.get(ImageRow, trial_row.left_image if side == "left" else trial_row.right_image)


def test_the_proxy_is_told_the_file_and_nothing_else_changes(app: Flask, robot: Any) -> None:
    voter = robot()
    trial = voter.trials[0]
    plain = voter.get(trial["left"])
    image = shown(app, trial, "left")
    assert hashlib.sha256(plain.data).hexdigest() == image.served_sha256
    file = app.config["STORE"].served / f"{image.served_key}.png"
    told = {"nginx": ("X-Accel-Redirect", f"/served/{file.name}"), "apache": ("X-Sendfile", str(file))}
    for sender, (name, value) in told.items():
        app.config["SENDFILE"] = sender
        answer = voter.get(trial["left"])
        assert (answer.status_code, answer.data, answer.headers.pop(name)) == (200, b"", value)
        answer.headers["Content-Length"] = plain.headers["Content-Length"]
        assert dict(answer.headers) == dict(plain.headers)
        assert app.test_client().get(trial["left"]).status_code == 404  # not the voter's own


@contextmanager
def behind_nginx(app: Flask, folder: Path) -> Iterator[int]:
    """The port of an nginx that has the places of docs/deploy.md, before the application."""
    text = (Path(__file__).parents[2] / "docs/deploy.md").read_text()
    places = "\n".join(re.findall(r"^location .*?^}", text, re.MULTILINE | re.DOTALL))
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    server = make_server("127.0.0.1", 0, app, threaded=True)
    places = places.replace("127.0.0.1:5000", f"127.0.0.1:{server.port}")
    places = places.replace("/srv/my-study/served", str(app.config["STORE"].served))
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}} http {{ access_log off; types {{ image/png png; }} {temporary}\n"
        f"server {{ listen 127.0.0.1:{port};\n{places}\n}} }}"
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    command = [str(NGINX), "-p", folder, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    with subprocess.Popen(command) as process:
        try:
            while process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.mark.skipif(NGINX is None, reason="nginx is missing")
def test_nginx_as_documented_sends_the_pictures(app: Flask, robot: Any, tmp_path: Path) -> None:
    app.config["SENDFILE"] = "nginx"
    voter = robot()
    cookie = f"study={voter.client.get_cookie('study').value}"
    with behind_nginx(app, tmp_path) as port:
        heads = []
        for side in ("left", "right"):
            connection = HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", voter.trials[0][side], headers={"Cookie": cookie})
            answer = connection.getresponse()
            image = shown(app, voter.trials[0], side)
            assert hashlib.sha256(answer.read()).hexdigest() == image.served_sha256
            heads.append({name: value for name, value in answer.getheaders() if name != "Date"})
            connection.request("GET", f"/served/{image.served_key}.png", headers={"Cookie": cookie})
            missing = connection.getresponse()
            assert (missing.status, len(missing.read()) > 0) == (404, True)
            connection.close()
    assert heads[0] == heads[1]
    assert heads[0]["Cache-Control"] == "private, max-age=86400, immutable"
    assert (heads[0]["Vary"], heads[0]["Content-Type"]) == ("Cookie", "image/png")
    assert not {"Last-Modified", "ETag", "X-Accel-Redirect"} & set(heads[0])
