"""A server of S3 on this machine, for tests: moto's."""

import boto3
import pytest
from moto.server import ThreadedMotoServer

from openhcs_omero.io import s3 as client

BUCKET = "screens"


@pytest.fixture(scope="session")
def s3_server():
    """The address of the server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_environment(s3_server):
    """Environment variables by which a user of S3 names the server and the credentials."""
    return {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


@pytest.fixture
def bucket(s3_environment, monkeypatch):
    """Upload a folder to a public bucket with `bucket(folder)`, which returns its address.

    This process becomes a user of the server.
    """
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    client.forget_clients()
    made = boto3.resource("s3").Bucket(BUCKET)
    made.create(ACL="public-read")

    def upload(folder):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                made.upload_file(str(path), f"{folder.name}/{path.relative_to(folder)}", {"ACL": "public-read"})
        return f"s3://{BUCKET}/{folder.name}"

    upload.bucket = made
    yield upload
    made.objects.delete()
    made.delete()
    client.forget_clients()
