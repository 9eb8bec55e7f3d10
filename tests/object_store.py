"""A store of objects that speaks S3, in this process. In: nothing. Out: the variables that make clients find it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BUCKET = "bucket"


@contextmanager
def serve_s3(wrap: Callable[[Any], Any] = lambda application: application) -> Iterator[dict[str, str]]:
    """Serve an empty bucket; gives the environment that a client needs. `wrap` may put faults before the server."""
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import S3FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        server._server.app = wrap(server._server.app)
        keys = {"access_key": "none", "secret_key": "none", "region": "us-east-1"}
        S3FileSystem(**keys, endpoint_override=endpoint, allow_bucket_creation=True).create_dir(BUCKET)
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": keys["access_key"],
            "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
            "AWS_DEFAULT_REGION": keys["region"],
            "AWS_EC2_METADATA_DISABLED": "true",  # there is none to ask
        }
    finally:
        server.stop()


@contextmanager
def counted() -> Iterator[list[str]]:
    """The requests that the stores of this process are sent meanwhile, a line each."""
    lines: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("werkzeug")
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    before, logger.propagate = (logger.level, logger.propagate), False
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
