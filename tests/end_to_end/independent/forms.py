"""What is told beside what is right: JSON, CSV, and the tables of the page, of Markdown and of a
terminal. What differs is listed in WRONG, HELD counts what was compared, form by form."""

import collections
import csv
import html
import re

OF_TEXTS = 1e-9
WRONG = []
HELD = collections.Counter()


class Near(float):
    """A number that is known to a tolerance."""

    def __new__(cls, value, tolerance):
        self = float.__new__(cls, value)
        self.tolerance = tolerance
        return self


def near(figure, tolerance):
    """A figure's numbers, known to a tolerance."""
    return {
        key: Near(value, tolerance) if isinstance(value, float) else value
        for key, value in figure.items()
    }


def hold(form, found, right):
    """Whether what is told is what is right: every name, and every number to its tolerance. What
    is told beyond it is wrong too."""
    if isinstance(right, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*right, *found]):
            if key not in found or key not in right:
                WRONG.append(f"{form}: {key} is {'missing' if key in right else 'not worked out'}")
            else:
                hold(f"{form} {key}", found[key], right[key])
    elif isinstance(right, list) and isinstance(found, list):
        hold(form, dict(enumerate(found)), dict(enumerate(right)))
    elif isinstance(right, (int, float)) and isinstance(found, (int, float)):
        HELD[form.split(" ")[0]] += 1
        if not abs(found - right) <= getattr(right, "tolerance", OF_TEXTS):
            WRONG.append(f"{form} is {found} for {right:.12g}")
    elif found != right:
        WRONG.append(f"{form} is {found!r} for {right!r}")


def by(rows, *names):
    """A list of objects by some of their fields."""
    found = {tuple(row[name] for name in names): row for row in rows}
    assert len(found) == len(rows), f"two rows of one name among {names}"
    return found


def hold_csv(path, report):
    """Every line of CSV beside the report's JSON, number by number."""
    own, right = report["evaluations"][0], {}

    def put(node, method, test_set, metric, kind, other, figure, **rest):
        numbers = {key: figure[key] for key in ("mean", "low", "high", "n")}
        right[node, method, test_set, metric, kind, other] = {**numbers, **rest}

    node = own["node"]
    for row in own["table"]["rows"]:
        put(node, row["method"], row["test_set"], row["metric"], "result", "", row)
    for part, kind in (
        ("differences", "difference"),
        ("matched", "at_equal_kl"),
        ("head_to_head", "head_to_head"),
    ):
        for one in own["comparisons"][part]:
            rest = {key: one[key] for key in ("p", "p_holm", "kl") if key in one}
            names = (one["method"], one["test_set"], one["metric"], kind, one["with"])
            put(node, *names, one, **rest)
    for gap in own["comparisons"]["gaps"]:
        put(node, gap["method"], gap["from"], gap["metric"], "gap", gap["to"], gap)
    for gap in own["comparisons"]["gains"]:
        rest = {key: gap[key] for key in ("p", "p_holm")}
        names = (f"{gap['method']} - {gap['with']}", gap["from"], gap["metric"], "gain_gap")
        put(node, *names, gap["to"], gap, **rest)
    for judging in report["judgings"]:
        for split_name, found in judging["splits"].items():
            names = (judging["a"], split_name, "win_rate", "judgement", judging["b"])
            put(judging["node"], *names, found["win_rate"])
    with open(path) as file:
        lines = list(csv.DictReader(file))
    found = {}
    for line in lines:
        key = tuple(line[x] for x in ("evaluation", "method", "test_set", "metric", "kind", "with"))
        number = lambda text: float(text) if text else None
        numbers = {x: number(line[x]) for x in ("mean", "low", "high", "n")}
        rest = ("p", "p_holm", "kl", "std_over_seeds", "error_over_inputs", "each_seed")
        found[key] = {**numbers, **{x: float(line[x]) for x in rest if line[x]}}
    hold("csv", found, right)
    if len(found) != len(lines):
        WRONG.append("csv: two lines of one name")


def numbers_of(cell):
    return re.findall(r"-?\d+(?:\.\d+)?", cell)


def hold_cell(form, place, cell, rights):
    """A cell's numbers are those that are right, to the digits that it shows. An interval that is
    not shown leaves the mean alone."""
    HELD[form] += 1
    shown = numbers_of(cell)
    rights = [x for x in rights if x is not None]
    close = lambda text, x: abs(float(text) - x) <= 0.5001 * 10.0 ** -len(text.partition(".")[2])
    if len(shown) not in (1, len(rights)) or not all(map(close, shown, rights)):
        WRONG.append(f"{form}: {place} is {cell!r} for {rights}")


class Shown:
    """What a table of one title, with named lines and columns, has to show."""

    def __init__(self, rows, report):
        self.rows = rows
        self.comparisons = report["evaluations"][0]["comparisons"]
        self.judgings = {one["node"]: one["splits"] for one in report["judgings"]}
        one = "diversity of one sample of each input, mean over the choices of the sample"
        self.ways = {
            "diversity of the samples of one input, mean over inputs": "_per_input",
            "diversity of the first sample of each input": "_across_inputs_first",
            one: "_across_inputs",
        }

    def line(self, one):
        """What the line of a comparison is called."""
        return f"{one['method']} - {one['with']}" if "with" in one else one["method"]

    def block(self, title, line, column):
        """The numbers of a cell; None where there is no such figure."""
        ends = lambda row: [row["mean"], row["low"], row["high"]] if row else None
        if title.startswith("gold's parts, "):
            test_set = title.removeprefix("gold's parts, ")
            row = self.rows.get((line, test_set, column)) or self.rows.get(
                (line, test_set, f"coverage_{column}")
            )
            return row and [row["mean"]]
        test_set, _, way = title.partition(", ")
        if way in self.ways:
            row = self.rows.get((line, test_set, column + self.ways[way]))
            return row and [row["mean"]]
        for ending, part in (
            ("_gain_gap", "gains"),
            ("_gap", "gaps"),
            ("_head_to_head", "head_to_head"),
            ("_at_equal_kl", "matched"),
            ("_difference", "differences"),
        ):
            if title.endswith(ending):
                metric = title.removesuffix(ending)
                for one in self.comparisons[part]:
                    names = (
                        self.line(one),
                        one["test_set"] if "test_set" in one else f"{one['from']} - {one['to']}",
                    )
                    if (one["metric"], *names) == (metric, line, column):
                        return ends(one)
                return None
        return ends(self.rows.get((line, column, title)))

    def listing(self, title, line, test_set):
        """The numbers of the cells of a line."""
        if title == "verdicts of judges":
            found = self.judgings[line][f"test/{test_set}"]
            won = found["win_rate"]
            return [[won["mean"], won["low"], won["high"]], [found["ties"]], [found["unclear"]]]
        metric, _, what = title.partition(": ")
        part = {
            "differences between methods": "differences",
            "against best-of-n at equal KL": "matched",
            "gaps of gains": "gains",
        }[what]
        for one in self.comparisons[part]:
            place = f"{one['from']} - {one['to']}" if part == "gains" else one["test_set"]
            if (one["metric"], self.line(one), place) == (metric, line, test_set):
                cells = [[one["mean"], one["low"], one["high"]], [one["p"]], [one["p_holm"]]]
                return [*cells, [one["kl"]]] if part == "matched" else cells
        raise KeyError((title, line, test_set))

    def hold_block(self, form, title, line, column, cell):
        rights = self.block(title, line, column)
        if rights is not None:
            hold_cell(form, (title, line, column), cell, rights)
        elif numbers_of(cell):
            WRONG.append(f"{form}: {title} of {line}, {column}: {cell!r} is not worked out")

    def hold_line(self, form, title, line, test_set, cells):
        rights = self.listing(title, line, test_set)
        for cell, own in zip(cells, rights):
            hold_cell(form, (title, line, test_set), cell, own)
        for cell in cells[len(rights) :]:
            if numbers_of(cell):
                WRONG.append(f"{form}: {title} of {line}, {test_set}: {cell!r} is not worked out")

    def page(self, page):
        plain = lambda text: html.unescape(re.sub("<[^>]*>", "", text)).strip()
        for kind, table in re.findall(
            r'<table class="?(block|listing)[^>]*>(.*?)</table>', page, re.S
        ):
            title = plain(re.search(r"<b>(.*?)</b>", table, re.S)[1])
            columns = [plain(one) for one in re.findall(r"<th scope=col>([^<]*)", table)][1:]
            for body in re.split("<tbody", table)[1:]:
                group = re.search(r'data-test-set="(.*?)"', body)
                for row in body.split("<th scope=row>")[1:]:
                    line, *cells = map(plain, re.split("<td[^>]*>", row))
                    if kind == "listing":
                        self.hold_line("page", title, line, html.unescape(group[1]), cells)
                    else:
                        for column, cell in zip(columns, cells, strict=True):
                            self.hold_block("page", title, line, column, cell)

    def markdown(self, form, text):
        for block in text.split("### ")[1:]:
            title = block.split("\n")[0]
            lines = [
                line.strip("| ").split(" | ")
                for line in block.splitlines()
                if line.startswith("| ")
            ]
            head, *rows = lines
            for line, *cells in rows:
                if head[1] == "test set":
                    self.hold_line(form, title, line, cells[0], cells[1:])
                elif head[0] in ("method", "methods"):
                    for column, cell in zip(head[1:], cells, strict=True):
                        self.hold_block(form, title, line, column, cell)

    def text(self, form, text):
        """Blocks of a title, a line of columns, and lines; further columns of a block follow it
        without a title."""
        title = None
        for block in text.split("\n\n"):
            lines = block.strip("\n").splitlines()
            if lines and not lines[0].startswith(" "):
                # A heading may go on in lines that begin with four blanks; columns are further in.
                end = 1
                while end < len(lines) and re.match("    [^ ]", lines[end]):
                    end += 1
                heading = " ".join(line.strip() for line in lines[:end])
                title = re.split(r" [↑↓]|: ", heading)[0] if len(lines) > end else None
                lines = lines[end:]
            if title is None or len(lines) < 2:
                continue
            columns = re.split(" {2,}", lines[0].strip())
            for line in lines[1:]:
                name, *cells = re.split(r" {2,}(?![^\[]*\])", line.strip())
                for column, cell in zip(columns, cells, strict=True):
                    self.hold_block(form, title, name, column.rstrip(" ↑↓"), cell)
