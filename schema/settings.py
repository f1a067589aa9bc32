"""Settings: ``outcrop.yaml`` < environment ``OUTCROP_*`` (and ``.env``) < options of the command.

Secrets come from the environment only: a token in ``outcrop.yaml`` is refused, and no text shows one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from outcrop.schema.documents import UniqueKeys, first_complaint
from outcrop.schema.errors import InputError, nearest
from outcrop.schema.ground import Footing
from outcrop.schema.places import is_remote, place
from outcrop.schema.shards import Shard
from outcrop.schema.space import AskedPooling, Fit

CONFIG_FILE = Path("outcrop.yaml")
SECRETS = ("token", "redis", "serve_token")


class Settings(BaseSettings):
    """What every command needs to know. Each field is `OUTCROP_<NAME>` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="OUTCROP_", env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    uri: str = Field(
        "./outcrop.db", repr=False, description="Milvus: a Milvus Lite directory, or http(s)://host:port of a server"
    )
    token: SecretStr | None = Field(None, description="user:password or API key of the server (environment only)")
    tls_ca: Path | None = Field(None, description="certificate (PEM) of the authority that signed the server's")
    tls_cert: Path | None = Field(None, description="our certificate (PEM), where the server wants one (mutual TLS)")
    tls_key: Path | None = Field(None, description="the key (PEM) of our certificate")
    tls_server_name: str | None = Field(
        None, description="the name in the server's certificate, where it is not the host's"
    )
    collection: str = Field("outcrop", description="name of the collection")
    registry: Path = Field(Path("data_key.json"), description="the registry file")
    datasets: Path | None = Field(
        None, description="folder that holds the datasets' roots; default: the registry's folder"
    )
    references: Path | None = Field(None, description="folder of written references; default: the datasets' folder")
    exports: Path = Field(Path("exports"), description="folder for what is exported")
    features: Path | None = Field(None, description="folder of kept features; default: features below the exports")
    model: str | None = Field(
        None, description="model preset or timm:<name>; default: the collection's own, dinov3_vits16 for a new one"
    )
    weights: Path | None = Field(None, description="weights file, a folder to look in, or hub: to download")
    pooling: str | None = Field(
        None,
        description="token, avg, gem or vlad, with a vocabulary as in vlad:1a2b3c4d; "
        "default: the collection's own, or the model's",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps; an ingest takes several, with commas")
    precision: str = Field("auto", description="auto, fp32, bf16 or fp16")
    redis: SecretStr | None = Field(
        None, description="Redis into which answers are written too, with its password (environment only)"
    )
    serve_token: SecretStr | None = Field(
        None, description="what everybody must show to `query serve` (environment only)"
    )
    serve_results: Path | None = Field(
        None,
        description="folder of clusterings (`query cluster --output`) and reports of evaluations that `query serve` "
        "shows; default: results in the state folder",
    )
    redis_ttl: int | None = Field(
        None, ge=1, description="seconds after which answers vanish from Redis; default: never"
    )
    compile: bool | None = Field(
        None,
        description="torch.compile rewrites the network of an ingest: true, false, or (default) on a GPU where the run is long",
    )
    input_size: int | None = Field(
        None, description="side of the network's input in pixels, for a new collection; default: the preset's"
    )
    fit: Fit | None = Field(None, description="squash, crop or pad, for a new collection; default: the preset's")
    gsd: float | None = Field(
        None,
        gt=0,
        le=1000,
        allow_inf_nan=False,
        description="metres of ground in a pixel of the network's input, to which photographs are brought, for a new collection; "
        "default: photographs as they are",
    )
    altitude: float | None = Field(
        None,
        gt=0,
        le=100_000,
        allow_inf_nan=False,
        description="metres above ground of query pictures that do not say, where a collection has a ground scale",
    )
    focal_length: float | None = Field(
        None,
        gt=0,
        le=10_000,
        allow_inf_nan=False,
        description="focal length in millimetres on film 36 mm wide of query pictures that do not say, likewise",
    )
    index: str | None = Field(
        None, description="index profile of a new collection; default: FLAT on Milvus Lite, HNSW on a server"
    )
    batch: int = Field(
        0,
        ge=0,
        le=4096,
        description="pictures in one forward pass; 0 finds by trial what a GPU takes best, 32 on a CPU",
    )
    workers: int = Field(0, ge=0, le=256, description="threads that decode pictures; 0: one per core")
    decode: Literal["auto", "cpu", "device"] = Field(
        "auto",
        description="where an ingest decodes JPEGs: cpu, or auto, on a GPU and beside it on the CPU; "
        "device takes a CPU for a device too, for tests",
    )
    decode_megapixels: int = Field(
        1024,
        ge=1,
        le=65536,
        description="megapixels that are decoded on a GPU and in hand there at once: 3 bytes each; "
        "less where its memory is small",
    )
    drawing_processes: int = Field(
        0, ge=0, le=256, description="processes that draw views of specimens; 0: one per core"
    )
    shard: str | None = Field(None, description="I/N: an ingest takes part I (from 0) of N alone; default: everything")
    ray: str | None = Field(
        None,
        min_length=1,
        description="address of a Ray cluster whose nodes an ingest runs on, or auto; default: this machine",
    )
    group: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="name of a sharded ingest, the same for all its shards; default: made of what is ingested",
    )
    bulk: Path | None = Field(
        None,
        description="folder of a server's own storage, at the same path there (or s3://bucket/folder of its bucket), through "
        "which ingests, imports and copies of many rows go as files; default: rows are sent",
    )
    bulk_from: int = Field(1_000_000, ge=1, description="rows from which they go through that folder")
    write_rate: float = Field(
        0.0, ge=0, description="rows that one process writes in a second, at most; 0: as fast as Milvus takes them"
    )
    report_links: Literal["none", "file", "relative"] = Field(
        "none",
        description="where a click on a picture of a report leads: to nothing, to the photograph on this machine (file), "
        "or to it by its path from the report's folder (relative)",
    )
    thumbnails: bool = Field(True, description="keep thumbnails of what is embedded, for reports")
    patience: float = Field(60.0, ge=0, description="seconds an ingest waits for a server that went away")
    metrics: Path | None = Field(
        None,
        description="file for the figures of ingest, verify and audit for Prometheus, or a folder for one file each",
    )
    state: Path = Field(Path(".outcrop"), description="folder for runs, failure ledgers, thumbnails and caches")
    feature_cache: float = Field(
        4.0, ge=0, description="GiB of local features kept in the state folder, for verification; 0 keeps none"
    )
    timeout: float = Field(30.0, gt=0, description="seconds to wait for one answer of Milvus")
    seed: int = Field(0, ge=0, description="seed of samples, k-means, maps and the bootstrap")
    rerank_reach: int = Field(
        4,
        ge=1,
        le=64,
        description="times --rerank-depth that are matched at most, while candidates show the query's ground; 1: never beyond it",
    )
    evaluate_depth: int = Field(
        100,
        ge=1,
        le=16383,
        description="parents that an evaluation ranks for a query; mAP and the median see no further",
    )
    evaluate_ignore_within: float | None = Field(
        None,
        ge=0,
        description="truth gps: metres up to which an item counts neither way; default: as far as relevant ones",
    )
    evaluate_ignore: float = Field(
        0.05, ge=0, le=1, description="truth by pairs or footprints: overlap from which an item counts neither way"
    )
    evaluate_resamples: int = Field(2000, ge=100, le=100_000, description="resamples of an evaluation's bootstrap")
    evaluate_worst: int = Field(12, ge=0, le=500, description="failures that an evaluation's page shows")
    verbose: bool = Field(False, description="log what happens, on stderr")

    @field_validator("bulk", "registry", "datasets", "references", "exports", "weights")
    @classmethod
    def _a_place(cls, path: Path | None) -> Path | None:
        return place(path) if path is not None else None

    @field_validator("state", "features", "metrics", "tls_ca", "tls_cert", "tls_key")
    @classmethod
    def _on_a_disk(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and is_remote(place(path)):
            raise ValueError(f"{place(path)} is in an object store; {info.field_name} must be on a disk")
        return path

    @field_validator("shard")
    @classmethod
    def _a_shard(cls, text: str | None) -> str | None:
        try:
            return str(Shard.parse(text)) if text is not None else None
        except InputError as error:
            raise ValueError(str(error)) from None

    @field_validator("pooling")
    @classmethod
    def _a_pooling(cls, text: str | None) -> str | None:
        try:
            return text if text is None or AskedPooling.parse(text) else None
        except InputError as error:
            raise ValueError(str(error)) from None

    @property
    def vocabularies_folder(self) -> Path:
        """The folder of what was fitted to pictures."""
        return self.state / "vocabularies"

    @property
    def part(self) -> Shard | None:
        """`shard` as a value."""
        return Shard.parse(self.shard) if self.shard is not None else None

    @property
    def assumed(self) -> Footing:
        """What holds for query pictures that do not say their height above ground or their focal length."""
        return Footing(self.altitude, self.focal_length)

    @property
    def datasets_folder(self) -> Path:
        """The folder that holds the datasets' roots."""
        return self.datasets if self.datasets is not None else self.registry.parent

    @property
    def features_folder(self) -> Path:
        """The folder of kept features, which are on a disk also where exports go to an object store."""
        return self.features or (self.state if is_remote(self.exports) else self.exports) / "features"

    @property
    def feature_cache_bytes(self) -> int:
        """`feature_cache` in bytes."""
        return int(self.feature_cache * 2**30)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options win over the environment, that over ``.env``, that over the YAML file."""
        return init_settings, env_settings, dotenv_settings, YamlConfigSettingsSource(settings_cls)


def read_settings(config: Path | None = None, **options: Any) -> Settings:
    """The settings in force; options that are None count as not given.

    Raises:
        InputError: the file named by `config` is missing or wrong, or a value does not fit.
    """
    if config is not None and not config.is_file():
        raise InputError(f"no settings file at {config}; give --config FILE, or leave it out")
    file = config or CONFIG_FILE
    _check_file(file)
    given = {name: value for name, value in options.items() if value is not None}

    class FromFile(Settings):
        model_config = SettingsConfigDict(yaml_file=file)

    try:
        return FromFile(**given)
    except ValidationError as error:
        raise InputError(f"settings: {first_complaint(error)} (from {file}, OUTCROP_* or an option)") from None


def _check_file(file: Path) -> None:
    if not file.is_file():
        return
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=UniqueKeys)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise InputError(f"settings file {file} cannot be read as YAML: {str(error).splitlines()[0]}") from None
    if values is None:
        return
    if not isinstance(values, dict):
        raise InputError(f"settings file {file} must hold NAME: value lines")
    for name in values:
        if name in SECRETS:
            raise InputError(
                f"settings file {file} holds a secret ({name}); move it to the environment: OUTCROP_{str(name).upper()}"
            )
        if name not in Settings.model_fields:
            raise InputError(
                f"settings file {file}: unknown setting {name!r}{nearest(str(name), Settings.model_fields)}"
            )
