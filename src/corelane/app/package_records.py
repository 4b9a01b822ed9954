"""Published packages as records of the metadata store, read off their manifests. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

from corelane.app.record_files import bundle_facts, numbers
from corelane.app.run_records import HOST
from corelane.core.errors import BundleError
from corelane.model.description import DESCRIPTION, read_description
from corelane.store.metadata_records import PackageRecord, stored_text


def read_package(path: Path) -> PackageRecord:
    """The package at `path`, `<packages>/<name>/<version>`.

    Raises `BundleError` when a file is missing or of another size, or when it lies where it was not published.
    """
    bundle = bundle_facts(path, "package")
    about = read_description(path / DESCRIPTION)
    if (about.name, str(about.version)) != (path.parent.name, path.name):
        raise BundleError(
            f"{path} must be version {about.version} of {about.name} as it says, got a copy of it elsewhere; remove it"
        )
    return PackageRecord(
        digest=bundle.digest,
        name=about.name,
        version=about.version,
        directory=stored_text(str(path.absolute())),
        host=HOST,
        task=about.task,
        created=about.provenance.created,
        num_bytes=bundle.num_bytes,
        config_digest=about.provenance.config_digest,
        data_digest=str(about.provenance.data_fingerprint.get("digest", "")),
        metrics=numbers(about.metrics),
        run=about.provenance.run,
        checkpoint=about.provenance.checkpoint,
    )


def checkpoint_digest(path: Path) -> str:
    """The digest of the checkpoint at `path`. Raises `BundleError` when it is not whole."""
    return bundle_facts(path, "checkpoint").digest
