"""The web application: `create_app` wires the parts together and does nothing else."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, render_template, request
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import HTTPException

from study import admin, voting
from study.store import open_store

HERE = Path(__file__).parent
POLICY = "; ".join(
    (
        "default-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


def create_app(config: Mapping[str, Any]) -> Flask:
    """Make the application of one study.

    config  SECRET_KEY, STUDY (the folder), PROTOCOL (study.config.Protocol); DATABASE_URL if not SQLite

    Raises
    ------
    RuntimeError
        If there is no SECRET_KEY: a study with a known key could be voted in by anybody for anybody.
    """
    app = Flask("study", template_folder=str(_files("templates")), static_folder=str(_files("static")))
    app.config.from_mapping(
        SESSION_COOKIE_NAME="study",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(days=30),
        MAX_CONTENT_LENGTH=16 * 1024,
        WTF_CSRF_TIME_LIMIT=None,  # a voter may take a long break; the token lives as long as the session
        WTF_CSRF_SSL_STRICT=False,  # it would ask for the Referer that our Referrer-Policy withholds
    )
    app.config.from_mapping(config)
    if not app.config.get("SECRET_KEY"):
        raise RuntimeError("SECRET_KEY is not set; `study init` makes one for a study")
    app.config["STORE"] = open_store(app.config["STUDY"], app.config.get("DATABASE_URL"))
    app.context_processor(lambda: {"protocol": app.config["PROTOCOL"]})
    CSRFProtect(app)
    app.register_blueprint(voting.bp)
    app.register_blueprint(admin.bp)
    app.register_error_handler(HTTPException, _say_it)
    app.after_request(_secure)
    return app


def _files(name: str) -> Path:
    """templates/ and static/ stand inside the package in a wheel, beside it in a checkout."""
    inside = HERE / name
    return inside if inside.is_dir() else HERE.parent / name


def _say_it(error: HTTPException) -> Any:
    """An error as JSON where a script asked, else as a page."""
    code = "csrf" if isinstance(error, CSRFError) else error.name.lower().replace(" ", "_")
    if request.is_json or request.path.startswith("/trials/"):
        return jsonify(error=code), error.code
    return render_template("error.html", error=error, code=code), error.code


def _secure(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    if response.mimetype == "text/html":
        response.headers["Cache-Control"] = "no-store"  # the Back button asks the server where the voter is
    return response
