"""SimplerCallback: shows and logs the plan in TerraTorch runs, and keeps checkpoints plain."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from terratorch_simpler.backbones.pruned import PrunedBackbone, find_pruned
from terratorch_simpler.exporting.checkpoint import NOTE, NOTE_VERSION
from terratorch_simpler.exporting.load import resolved_model_args
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.wording import decision_sentence, warnings_of
from terratorch_simpler.task.checkpoint import check_checkpoint, checkpoint_of, running_backbone
from terratorch_simpler.task.preprocessing import preprocessing_of

logger = logging.getLogger(__name__)

MODEL_ARGS = "model_args"


class SimplerCallback(Callback):
    """Goes into the trainer's callbacks of a TerraTorch config.

    It loads this package, so that ``simpler_<backbone>`` is registered; shows the plan when
    training starts and logs it to the run's logger; says which backbone a checkpoint brings, and
    refuses one of another depth than the config asks for; and resolves ``backbone_plan`` and
    ``backbone_calibration`` to a plain ``backbone_keep_blocks`` in what checkpoints store, so that
    loading one needs neither plan nor tiles; and leaves a note in them, under
    ``terratorch_simpler``, that says how to load them.
    """

    def __init__(self) -> None:
        self._plan: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Resolve the task's hyperparameters before anything stores them.

        Raises:
            ValueError: If the config asks for one depth and the checkpoint holds another.
        """
        pruned = find_pruned(pl_module)
        check_checkpoint(trainer, pl_module, pruned, stage)
        if pruned is None:
            return
        if pruned.plan is not None:
            self._plan = pruned.plan.model_dump(mode="json", by_alias=True)
        resolve_hyperparameters(pl_module, pruned)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the plan and log it."""
        pruned = find_pruned(pl_module)
        if not trainer.is_global_zero:
            return
        if pruned is None:
            warn_of_full(trainer, pl_module)
            return
        say_checkpoint(trainer, pl_module)
        # What a checkpoint brought was said; a plan says more.
        if checkpoint_of(trainer) is None or pruned.plan is not None:
            for line in summary(pruned):
                print(line)
        log_plan(trainer, pruned)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what a checkpoint brought, where nothing but validation is run."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            say_checkpoint(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what a checkpoint brought."""
        say_checkpoint(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what a checkpoint brought."""
        say_checkpoint(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leave a note: how the checkpoint is loaded, of which task, and from what pixels."""
        cls = type(pl_module)
        datamodule = getattr(trainer, "datamodule", None)
        arguments = pl_module.hparams.get(MODEL_ARGS)
        stated = None
        if datamodule is not None and isinstance(arguments, dict):
            stated = preprocessing_of(datamodule, arguments)
        checkpoint[NOTE] = {
            "version": NOTE_VERSION,
            "read_me": "terratorch_simpler.load(PATH) loads it. load_from_checkpoint does after "
            "'import terratorch_simpler', and 'terratorch-simpler export' takes it elsewhere.",
            "task": f"{cls.__module__}.{cls.__qualname__}",
            "preprocessing": stated,
        }

    def state_dict(self) -> dict[str, Any]:
        """The plan, for the checkpoint: plain data, or nothing where a number decided."""
        return {"plan": self._plan}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the plan of the checkpoint where the run itself has none."""
        self._plan = self._plan or state_dict["plan"]

    @property
    def plan(self) -> PruningPlan | None:
        """The plan behind the task's backbone, from this run or the checkpoint it went on from."""
        return PruningPlan.model_validate(self._plan) if self._plan else None


def say_checkpoint(trainer: Trainer, module: LightningModule) -> None:
    """Say which backbone is run, where it comes from a checkpoint."""
    checkpoint = checkpoint_of(trainer)
    if checkpoint is not None and trainer.is_global_zero:
        backbone = running_backbone(module, find_pruned(module))
        print(f"SIMPLER: {backbone}, from the checkpoint {checkpoint}.")


def warn_of_full(trainer: Trainer, module: LightningModule) -> None:
    """Warn of training a full backbone, and say where it comes from."""
    checkpoint = checkpoint_of(trainer)
    found = "SimplerCallback found no pruned backbone"
    if checkpoint is None:
        logger.warning(
            "%s: the model has all its blocks. Put simpler_ before the backbone's name to prune it",
            found,
        )
        return
    logger.warning(
        "%s: the checkpoint %s holds %s. To train a pruned one, start from the backbone's weights: "
        "a name with simpler_ in the config, and no ckpt_path",
        found,
        checkpoint,
        running_backbone(module, None),
    )


def resolve_hyperparameters(module: LightningModule, pruned: PrunedBackbone) -> None:
    """Replace plan and calibration in a task's hyperparameters by the blocks that are kept."""
    arguments = module.hparams.get(MODEL_ARGS)
    if isinstance(arguments, dict):
        module.hparams[MODEL_ARGS] = resolved_model_args(arguments, pruned)


def summary(pruned: PrunedBackbone) -> list[str]:
    """What to show when training starts."""
    if pruned.plan is None:
        blocks = f"{len(pruned.kept_blocks)} of {pruned.full_depth} blocks"
        return [f"SIMPLER: {blocks} are kept, as keep_blocks says."]
    return [f"SIMPLER: {decision_sentence(pruned.plan)}", *warnings_of(pruned.plan)]


def log_plan(trainer: Trainer, pruned: PrunedBackbone) -> None:
    """Log the depth, and with a plan its confidence, parameters and figures."""
    plan = pruned.plan
    scalars: dict[str, float] = {
        "simpler/depth": len(pruned.kept_blocks),
        "simpler/total_depth": pruned.full_depth,
    }
    if plan is not None:
        scalars["simpler/parameters_kept"] = (
            plan.backbone.kept_parameters / plan.backbone.parameters
        )
        if plan.confidence is not None:
            scalars["simpler/confidence"] = plan.confidence
    for run_logger in trainer.loggers:
        run_logger.log_metrics(scalars, step=0)
        if plan is not None:
            log_figures(run_logger, plan)


def log_figures(run_logger: Any, plan: PruningPlan) -> None:
    """Log the figures where the logger takes pictures: TensorBoard, Weights & Biases, MLflow."""
    from terratorch_simpler.report import scores_figure, similarity_figure

    figures = {"similarity": similarity_figure(plan), "scores": scores_figure(plan)}
    experiment = run_logger.experiment
    for name, figure in figures.items():
        if hasattr(experiment, "add_figure"):
            experiment.add_figure(f"simpler/{name}", figure, 0)
        elif hasattr(run_logger, "log_image"):
            run_logger.log_image(f"simpler/{name}", [figure], step=0)
        elif hasattr(experiment, "log_figure"):
            experiment.log_figure(run_logger.run_id, figure, f"simpler/{name}.png")
