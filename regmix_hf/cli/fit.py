"""`regmix fit`: stage 4 of a recipe, or the same on tables of runs that came from elsewhere."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regmix_hf.cli.arguments import Overrides, open_study
from regmix_hf.cli.console import Console
from regmix_hf.cli.quality import QualityFormat, quality_text
from regmix_hf.cli.stages import run_one
from regmix_hf.errors import RecipeError, StudyError
from regmix_hf.files import hash_file
from regmix_hf.recipe.load import parse_override
from regmix_hf.recipe.target import TargetValue
from regmix_hf.study.table_fit import FitRecord, TableFit

if TYPE_CHECKING:
    from regmix_hf.regression.fitting import Fit
    from regmix_hf.runs.layout import Columns
    from regmix_hf.runs.runs import Runs

_DEFAULT_OUTPUT = Path("runs/fit")
#: Options that take several, joined by commas.
_LISTED = ("targets", "weights", "ignore", "maximize", "minimize", "where")
_DEFAULT_ESTIMATORS = "ridge,lightgbm,power_law"


_Source = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE", help="One table of all (CSV, TSV, JSONL, Parquet), Olmix's folder, or a repository."
    ),
]
_Target = Annotated[
    str | None,
    typer.Option(
        help="A column, several (a,b), `mean` or `worst` of all, or as in a recipe. Default: the mean."
    ),
]
_Maximize = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Of these (or '*_acc') more is better; without --target, the target."),
]


def fit(
    context: typer.Context,
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE]", help="A recipe.yaml or its folder.")
    ] = None,
    overrides: Overrides = None,
    mixtures: Annotated[
        Path | None, typer.Option(help="CSV of mixtures: index, a column per domain.")
    ] = None,
    losses: Annotated[Path | None, typer.Option(help="CSV of losses, joined on the index.")] = None,
    runs: _Source = None,
    id: Annotated[str | None, typer.Option(metavar="COLUMN", help="Names the runs of tables.")] = None,
    weights: Annotated[str | None, typer.Option(metavar="A,B", help="Columns of weights, or 'w_*'.")] = None,
    targets: Annotated[str | None, typer.Option(metavar="A,B", help="Measured columns, or 'loss_*'.")] = None,
    ignore: Annotated[str | None, typer.Option(metavar="A,B", help="Columns that are neither.")] = None,
    where: Annotated[
        str | None, typer.Option(metavar="COLUMN=VALUE,...", help="Only runs that have it.")
    ] = None,
    target: _Target = None,
    maximize: _Maximize = None,
    minimize: Annotated[
        str | None, typer.Option(metavar="A,B", help="Of these (or '*_ppl') less is better.")
    ] = None,
    min_signal: Annotated[
        float | None, typer.Option(min=0.0, help="Least spread of a target over mixtures, in its noise.")
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MIXTURES,LOSSES", help="More runs to predict; repeatable."),
    ] = None,
    estimators: Annotated[str, typer.Option(help="Families to fit, with commas.")] = _DEFAULT_ESTIMATORS,
    output: Annotated[Path, typer.Option(help="Folder for what was fitted.")] = _DEFAULT_OUTPUT,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all that is random.")] = 0,
    format: Annotated[
        QualityFormat, typer.Option("--format", help="How to print the quality of fits; notes go to stderr.")
    ] = QualityFormat.HUMAN,
) -> None:
    """Stage 4: fit and compare regressors; without a recipe, on runs from tables."""
    if recipe is not None:
        _check_of_recipe(recipe, context)
        _fit_study(recipe, overrides, format)
        return
    request = OutsideRuns(
        source=_source(runs, mixtures, losses),
        said=_said(id, weights, targets, ignore, where),
        asked=target or maximize or "mean",
        maximize=tuple(_listed(maximize or "")),
        minimize=tuple(_listed(minimize or "")),
        min_signal=min_signal,
        tests=tuple(test or ()),
        estimators=tuple(_listed(estimators)),
        output=output,
        seed=seed,
    )
    request.fit(Console(format.of_notes), format)


def _check_of_recipe(recipe: Path, context: typer.Context) -> None:
    """Refuse options that a recipe says itself.

    Raises:
        RecipeError: There is one, which would do nothing.
    """
    for name in context.params:
        source = context.get_parameter_source(name)
        if name in ("recipe", "overrides", "format") or source is None or source.name != "COMMANDLINE":
            continue
        if not recipe.exists():
            option = next((one for one in _LISTED if context.params[one]), "targets")
            several = f"{context.params[option] or 'A'},{recipe}"
            raise RecipeError(
                f"{str(recipe)!r} belongs to no option, and is no recipe.",
                f"several columns or patterns are joined by commas: --{option} {shlex.quote(several)}",
            )
        raise RecipeError(
            f"a recipe ({recipe}) and --{name.replace('_', '-')}, an option for tables, cannot go together.",
            "a recipe says it itself (`regmix keys regression`); leave the option out",
        )


def _fit_study(recipe: Path, overrides: list[str] | None, format: QualityFormat) -> None:
    """Do the stage; print the table of quality, where it is asked for in a form of its own, in its place."""
    if not format.is_text:
        run_one("fit", recipe, overrides, format.of_notes)
        return
    from regmix_hf import pipeline
    from regmix_hf.files import read_parquet, read_record
    from regmix_hf.study import names
    from regmix_hf.tables import QUALITY

    study = open_study(recipe, overrides)
    pipeline.run_stage(study, "fit", Console())
    target = read_record(study.regression / names.FIT_SUMMARY, target=str)["target"]
    quality = read_parquet(study.regression / names.QUALITY, QUALITY)
    typer.echo(quality_text(quality, target, format), nl=False)


def _print_quality(fit: Fit, format: QualityFormat, console: Console) -> None:
    from regmix_hf.cli.views import agreement_tables, carry_tables, quality_tables

    if (text := quality_text(fit.quality, str(fit.target), format)) is not None:
        typer.echo(text, nl=False)
    else:
        quality = quality_tables(fit.quality, str(fit.target), fit.target.quantity, console.format)
        console.tables([*quality, *agreement_tables(fit.summary), *carry_tables(fit.summary)])


def _source(runs: str | None, mixtures: Path | None, losses: Path | None) -> tuple[str, ...]:
    """One source of runs, or the tables of mixtures and of losses."""
    if runs is not None:
        if mixtures is not None or losses is not None:
            raise RecipeError("--runs holds weights and losses: it does not go with --mixtures or --losses.")
        return (runs,)
    if mixtures is None and losses is None:
        raise RecipeError(
            "nothing to fit.", "give a recipe, --runs TABLE, or --mixtures A.csv --losses B.csv"
        )
    if mixtures is None or losses is None:
        here, missing = ("--losses", "--mixtures") if mixtures is None else ("--mixtures", "--losses")
        raise RecipeError(
            f"{here} {mixtures or losses} is there, and {missing} is missing.",
            f"add {missing} B.csv; a table that holds both is --runs {mixtures or losses}",
        )
    return str(mixtures), str(losses)


def _said(
    id: str | None, weights: str | None, targets: str | None, ignore: str | None, where: str | None
) -> Columns:
    """What options say of the columns of tables."""
    from regmix_hf.runs.layout import Columns

    pairs = [part.partition("=") for part in _listed(where or "")]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise RecipeError(f"--where {wrong[0]!r} says no value.", "write --where COLUMN=VALUE")
    return Columns(
        id=id,
        weights=tuple(_listed(weights or "")),
        targets=tuple(_listed(targets or "")),
        ignore=tuple(_listed(ignore or "")),
        where=tuple((name, value) for name, _, value in pairs),
    )


@dataclass(frozen=True)
class OutsideRuns:
    """A fit on tables, as the options ask for it.

    Attributes:
        source: One source of weights and losses, or two tables.
        said: What is said of their columns.
    """

    source: tuple[str, ...]
    asked: str
    said: Columns | None = None
    tests: tuple[str, ...] = field(default=())
    estimators: tuple[str, ...] = ()
    output: Path = _DEFAULT_OUTPUT
    seed: int = 0
    maximize: tuple[str, ...] = ()
    minimize: tuple[str, ...] = ()
    min_signal: float | None = None

    def fit(self, console: Console, format: QualityFormat = QualityFormat.HUMAN) -> None:
        """Fit, save and print how well every estimator predicts."""
        from regmix_hf.regression.carrying import carrying
        from regmix_hf.regression.fitting import fit_runs

        if self.output.exists() and not self.output.is_dir():
            raise StudyError(f"--output {self.output} is a file.", "name another folder")
        sources = self._test_sources()
        runs, target = self._read(self.source), _target(self.asked)
        # Targets of runs to predict are those of the runs to fit on.
        tests = {name: self._read(source, like=runs) for name, source in sources.items()}
        for note in runs.notes:
            console.note(note)
        runs = self._of_one_size(runs, console)
        fit = fit_runs(
            carrying(runs, self.min_signal, console, estimators=self.estimators, target=target),
            self.estimators,
            target,
            self.output,
            test_sets=tests,
            random_state=self.seed,
            progress=console,
        )
        TableFit(self.output, self.output).sign_fit(self._record(runs.notes))
        _print_quality(fit, format, console)
        console.next(f"regmix choose {self.output}")

    def _of_one_size(self, runs: Runs, console: Console) -> Runs:
        """Take the runs of one size and length where no family of several is asked for."""
        from regmix_hf.regression.by_size import of_one_scale, usual_scale
        from regmix_hf.regression.registry import estimator_class

        usual = usual_scale(runs)
        if usual is None or any(estimator_class(name).takes_sizes for name in self.estimators):
            return runs
        console.note(
            "the runs are of several sizes or lengths: --estimators scaled_law fits all of them, --where "
            "COLUMN=VALUE takes others than the usual one"
        )
        return of_one_scale(runs, console, usual)

    def _record(self, notes: tuple[str, ...]) -> FitRecord:
        """What is asked, to be kept beside what comes of it."""
        options = ("--runs",) if len(self.source) == 1 else ("--mixtures", "--losses")
        words = ["fit", *(word for pair in zip(options, self.source, strict=True) for word in pair)]
        words += self.said.words if self.said else []
        words += ["--target", self.asked]
        words += ["--min-signal", str(self.min_signal)] if self.min_signal is not None else []
        for option, columns in (("--maximize", self.maximize), ("--minimize", self.minimize)):
            words += [option, ",".join(columns)] if columns else []
        words += [word for test in self.tests for word in ("--test", test)]
        words += ["--estimators", ",".join(self.estimators), "--seed", str(self.seed)]
        files = [file for name in self.source for file in _files_of(Path(name))]
        tables = {str(file): hash_file(file) for file in files}
        return FitRecord((*words, "--output", str(self.output)), self.seed, tables, notes)

    def _test_sources(self) -> dict[str, tuple[str, ...]]:
        """Where runs to predict are read from, by the name of each set."""
        sets: dict[str, tuple[str, ...]] = {}
        for text in self.tests:
            name, _, files = text.partition("=")
            source = tuple(_listed(files))
            if not name or len(source) not in (1, 2) or not all(source):
                raise RecipeError(
                    f"--test {text!r} is no test set.",
                    "write --test 60m=mixtures.csv,losses.csv, or one table of both",
                )
            if name in sets:
                raise RecipeError(f"--test {text!r}: there is a test set {name!r} already.", "rename it")
            sets[name] = source
        return sets

    def _read(self, source: tuple[str, ...], like: Runs | None = None) -> Runs:
        from regmix_hf.runs.runs import load_runs

        said: dict[str, Any] = {"columns": self.said, "maximize": self.maximize, "minimize": self.minimize}
        said |= {"target": _target(self.asked), "like": like}
        if len(source) == 1:
            return load_runs(source[0], **said)
        return load_runs(mixtures=source[0], losses=source[1], **said)


def _files_of(source: Path) -> list[Path]:
    """The tables that a source is read from; none where it is a repository or the folder of a study."""
    from regmix_hf.runs.outside import METRICS, RATIOS

    if source.is_file():
        return [source]
    return [file for name in (RATIOS, METRICS) if (file := source / name).is_file()]


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if text]


def _target(text: str) -> TargetValue:
    if text.lstrip().startswith(("{", "[")):
        value: TargetValue = parse_override(f"target={text}")[1]
        return value
    return _listed(text) if "," in text else text
