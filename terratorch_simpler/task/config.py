"""A TerraTorch task config, read once: its text, where everything stands in it, and its values."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from terratorch_simpler.messages import one_line
from terratorch_simpler.results.plan import SOURCE
from terratorch_simpler.task.convert import conversion, convert_arguments, is_converted
from terratorch_simpler.task.edits import Edit, apply_edits, get
from terratorch_simpler.task.factories import ENCODER_DECODER, check_factory


@dataclass(frozen=True)
class TaskConfig:
    """A config whose backbone can be replaced; TerraTorch itself has not seen it yet.

    Attributes:
        path: Where it lies.
        text: Its YAML.
        node: The same as YAML's nodes, which know where in the text they stand.
        values: The same as plain values; those of a deprecated factory converted.
        edits: What converts its text, if anything does.
    """

    path: Path
    text: str
    node: yaml.Node
    values: dict[str, Any]
    edits: tuple[Edit, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> TaskConfig:
        """Read a config, and check it for what selection needs.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not YAML, no TerraTorch config, or its backbone cannot be replaced.
        """
        path = Path(path)
        if not path.is_file():
            what = ", which is a folder: name a file in it" if path.is_dir() else ""
            raise FileNotFoundError(f"no config at {path}{what}")
        try:
            text = path.read_text()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not YAML: {one_line(error)}") from error
        config = cls.parse(text, path)
        _check(config.values, path)
        _check_written(config)
        return config._converted()

    @classmethod
    def parse(cls, text: str, path: Path) -> TaskConfig:
        """Take the text of a config as it is; ``path`` names it in messages.

        Raises:
            ValueError: If it is not YAML, or empty.
        """
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            if node is None:
                raise ValueError(_no_config(path))
            # Constructing writes merged keys into the nodes: into those of a copy.
            values = SafeConstructor().construct_document(deepcopy(node))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not YAML: {one_line(error)}") from error
        return cls(path, text, node, values)

    def _converted(self) -> TaskConfig:
        """The same for EncoderDecoderFactory, if another factory stands in its place."""
        init_args = self.values["model"]["init_args"]
        if not is_converted(init_args):
            return self
        edits = conversion(self.text, self.node, self.values, self.path)
        init_args = init_args | {"model_factory": ENCODER_DECODER}
        init_args["model_args"] = convert_arguments(init_args["model_args"])
        values = self.values | {"model": self.values["model"] | {"init_args": init_args}}
        return replace(self, values=values, edits=tuple(edits))

    @property
    def full(self) -> str | None:
        """The text of the converted config; None if nothing had to be."""
        return apply_edits(self.text, self.edits) if self.edits else None

    @property
    def model_args(self) -> dict[str, Any]:
        """The ``model_args`` of its model."""
        arguments: dict[str, Any] = self.values["model"]["init_args"]["model_args"]
        return arguments

    @property
    def backbone(self) -> str:
        """Name of its backbone, as it is written there."""
        name: str = self.model_args["backbone"]
        return name

    @property
    def data_args(self) -> dict[str, Any]:
        """The ``init_args`` of its data; empty if it has none."""
        data = self.values.get("data")
        arguments = data.get("init_args") if isinstance(data, dict) else None
        return arguments if isinstance(arguments, dict) else {}

    @property
    def custom_modules(self) -> str | None:
        """Folder of the user's own modules, if it names one."""
        folder: str | None = self.values.get("custom_modules_path")
        return folder


def _check(config: dict[str, Any], path: Path) -> None:
    """Refuse values that are no config of a task, or one whose backbone cannot be replaced."""
    node: Any = config
    for key in ("model", "init_args", "model_args"):
        node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise ValueError(_no_config(path))
    check_factory(config["model"]["init_args"].get("model_factory"), path)
    backbone = node.get("backbone")
    if backbone is None:
        raise ValueError(f"{path} has no backbone in model.init_args.model_args")
    if not isinstance(backbone, str):
        raise ValueError(
            f"backbone in {path} is a module ({backbone}): give a name of the backbone registry, "
            "since a module cannot be stored in checkpoints"
        )
    if node.get("backbone_kwargs"):
        raise ValueError(
            f"{path} gives backbone_kwargs, beside which TerraTorch takes no backbone_keep_blocks: "
            "write each entry as backbone_NAME in model.init_args.model_args"
        )
    if backbone.startswith(f"{SOURCE}_"):
        raise ValueError(
            f"{path} uses {backbone} already: give the config of the full backbone, "
            f"{backbone.removeprefix(f'{SOURCE}_')}"
        )


def _check_written(config: TaskConfig) -> None:
    """Refuse a config where what gets new lines is merged in as a whole."""
    for keys in (("model", "init_args", "model_args"), ("trainer", "callbacks")):
        node: yaml.Node | None = config.node
        value: Any = config.values
        for key in keys:
            node, value = get(node, key), value.get(key) if isinstance(value, dict) else None
            if node is None and value is not None:
                raise ValueError(
                    f"{key} in {config.path} comes from a merge key (<<), where nothing can be "
                    f"added to it: write {'.'.join(keys)} out"
                )


def _no_config(path: Path) -> str:
    return f"{path} is no TerraTorch task config: it has no model.init_args.model_args"
