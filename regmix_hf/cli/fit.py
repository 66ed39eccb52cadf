"""`regmix fit`: stage 4 of a recipe, or the same on two CSV files of runs that came from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regmix_hf.cli.arguments import OutputFormat, Overrides
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.stages import run_one
from regmix_hf.errors import RecipeError, StudyError
from regmix_hf.files import hash_file
from regmix_hf.recipe.load import parse_override
from regmix_hf.recipe.target import TargetValue
from regmix_hf.study.table_fit import FitRecord, TableFit

if TYPE_CHECKING:
    from regmix_hf.runs.runs import Runs

_DEFAULT_OUTPUT = Path("runs/fit")
_DEFAULT_ESTIMATORS = "ridge,lightgbm,power_law"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        name="fit",
        help="Stage 4: fit and compare regressors; without a recipe, on runs from two CSV files.",
    )(_fit)


def _fit(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE]", help="A recipe.yaml or its folder.")
    ] = None,
    overrides: Overrides = None,
    mixtures: Annotated[
        Path | None, typer.Option(help="CSV of mixtures: index, a column per domain.")
    ] = None,
    losses: Annotated[Path | None, typer.Option(help="CSV of losses, joined on the index.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="A column, several (a,b), `mean` or `worst` of all, or as in a recipe. Default: the mean."
        ),
    ] = None,
    maximize: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Columns of which more is better; without --target, the target."),
    ] = None,
    minimize: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns of which less is better.")
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
    format: OutputFormat = Format.HUMAN,
) -> None:
    if recipe is not None:
        if mixtures or losses or test or target or maximize or minimize or min_signal is not None:
            raise RecipeError(
                f"a recipe ({recipe}) and options for CSV files cannot go together.",
                "a recipe says `regression.target` itself; leave the options out",
            )
        run_one("fit", recipe, overrides, format)
        return
    if mixtures is None or losses is None:
        raise RecipeError("nothing to fit.", "give a recipe, or --mixtures A.csv --losses B.csv")
    request = OutsideRuns(
        mixtures=mixtures,
        losses=losses,
        asked=target or maximize or "mean",
        maximize=tuple(_listed(maximize or "")),
        minimize=tuple(_listed(minimize or "")),
        min_signal=min_signal,
        tests=tuple(test or ()),
        estimators=tuple(_listed(estimators)),
        output=output,
        seed=seed,
    )
    request.fit(Console(format))


@dataclass(frozen=True)
class OutsideRuns:
    """A fit on CSV files, as the options ask for it."""

    mixtures: Path
    losses: Path
    asked: str
    tests: tuple[str, ...] = field(default=())
    estimators: tuple[str, ...] = ()
    output: Path = _DEFAULT_OUTPUT
    seed: int = 0
    maximize: tuple[str, ...] = ()
    minimize: tuple[str, ...] = ()
    min_signal: float | None = None

    def fit(self, console: Console) -> None:
        """Fit, save and print how well every estimator predicts."""
        from regmix_hf.cli.views import carry_tables, quality_tables
        from regmix_hf.regression.carrying import carrying
        from regmix_hf.regression.fitting import fit_runs
        from regmix_hf.runs.runs import load_runs

        if self.output.exists() and not self.output.is_dir():
            raise StudyError(f"--output {self.output} is a file.", "name another folder")
        tests = self._test_sets()
        runs = load_runs(
            mixtures=self.mixtures, losses=self.losses, maximize=self.maximize, minimize=self.minimize
        )
        fit = fit_runs(
            carrying(runs, self.min_signal, console),
            self.estimators,
            _target(self.asked),
            self.output,
            test_sets=tests,
            random_state=self.seed,
            progress=console,
        )
        TableFit(self.output, self.output).sign_fit(self.record)
        quality = quality_tables(fit.quality, str(fit.target), console.format)
        console.tables([*quality, *carry_tables(fit.summary)])
        console.next(f"regmix choose {self.output}")

    @property
    def record(self) -> FitRecord:
        """What is asked, to be kept beside what comes of it."""
        words = [
            "fit",
            "--mixtures",
            str(self.mixtures),
            "--losses",
            str(self.losses),
            "--target",
            self.asked,
        ]
        words += ["--min-signal", str(self.min_signal)] if self.min_signal is not None else []
        for option, columns in (("--maximize", self.maximize), ("--minimize", self.minimize)):
            words += [option, ",".join(columns)] if columns else []
        words += [word for test in self.tests for word in ("--test", test)]
        words += ["--estimators", ",".join(self.estimators), "--seed", str(self.seed)]
        tables = {str(table): hash_file(table) for table in (self.mixtures, self.losses)}
        return FitRecord((*words, "--output", str(self.output)), self.seed, tables)

    def _test_sets(self) -> dict[str, Runs]:
        from regmix_hf.runs.runs import Runs, directions_of

        given = directions_of(self.maximize, self.minimize)
        sets: dict[str, Runs] = {}
        for text in self.tests:
            name, _, files = text.partition("=")
            pair = _listed(files)
            if not name or len(pair) != 2:
                raise RecipeError(
                    f"--test {text!r} is no test set.", "write --test 60m=mixtures.csv,losses.csv"
                )
            if name in sets:
                raise RecipeError(f"--test {text!r}: there is a test set {name!r} already.", "rename it")
            sets[name] = Runs.from_csv(Path(pair[0]), Path(pair[1]), given=given)
        return sets


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if text]


def _target(text: str) -> TargetValue:
    if text.lstrip().startswith(("{", "[")):
        value: TargetValue = parse_override(f"target={text}")[1]
        return value
    return _listed(text) if "," in text else text
