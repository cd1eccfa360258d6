"""Make .dvc/plots/page.html, in which `dvc plots show` and `diff` put their plots: it holds Vega, so that none needs a
network. DVC's own page loads it from a content delivery network.

python -m tools.make_plots_page (needs npm; the packages are checked by their SHA-512).
"""

import base64
import hashlib
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import click

# The versions that DVC's templates are written for. Digests: npm view NAME dist.integrity
PACKAGES = {
    "vega@5.33.1": "1fArfVDUqVbb5z8n+/nVQb+VNBzx8svY6CrsyTK4Ujm4yrd9I1auoKxBAPXLCavY1LcrbHUskQbGUP8gXOzyQw==",
    "vega-lite@5.23.0": "l4J6+AWE3DIjvovEoHl2LdtCUkfm4zs8Xxx7INwZEAv+XVb6kR6vIN1gt3t2gN2gs/y4DYTs/RPoTeYAuEg6mA==",
    "vega-embed@6.29.0": "PmlshTLtLFLgWtF/b23T1OwX53AugJ9RZ3qPE2c01VFAbgt3/GSNI/etzA/GzdrkceXFma+FDHNXUppKuM0U6Q==",
}
LICENCE = "vega-lite@5.23.0"  # it carries the text; the licence and its holder are the same for all three
OUT = Path(__file__).parents[1] / ".dvc/plots/page.html"
# DVC fills in {refresh_tag} and {plot_divs}; the page has no {scripts}, which would be the network's.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
%(refresh)s
<title>Olive Press: plots</title>
<!--
%(packages)s

%(licence)s-->
%(scripts)s
<script>
// The menu's "open in the Vega editor" is a page elsewhere. SVG stays sharp on every screen.
// A plot without data, which DVC leaves empty, takes no place.
window.vegaEmbed = ((embed) => (place, spec) => spec.data
  ? embed(place, spec, {renderer: "svg", actions: {export: true, source: false, compiled: false, editor: false}})
  : document.querySelector(place).remove()
)(window.vegaEmbed);
</script>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 24px; color: #1c2321; background: #f4f6f5 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(600px, 1fr)); gap: 16px; align-items: start }
main > div[id*="results_machine"] { order: 1 }
main > div { background: #fff; border: 1px solid #dfe5e2; border-radius: 6px; padding: 14px 16px }
</style>
</head>
<body>
<main>
%(plots)s
</main>
</body>
</html>
"""


@click.command()
def main() -> None:
    """Download Vega from npm's registry and write the page."""
    scripts, licence = [], ""
    for package, digest in PACKAGES.items():
        files = unpack(package, digest)
        name = package.partition("@")[0]
        script = files[f"package/build/{name}.min.js"].decode()
        if "</script" in script or "{plot_divs}" in script:
            raise click.ClickException(f"{package}: cannot stand in a page as it is")
        scripts.append(f"<script>\n{script.partition('//# sourceMappingURL')[0].strip()}\n</script>")
        if package == LICENCE:
            licence = files["package/LICENSE"].decode()
    OUT.parent.mkdir(exist_ok=True)
    values = {"packages": ", ".join(PACKAGES), "licence": licence, "scripts": "\n".join(scripts)}
    OUT.write_text(PAGE % {**values, "refresh": "{refresh_tag}", "plots": "{plot_divs}"}, encoding="utf-8")
    click.echo(f"{OUT}: {OUT.stat().st_size:,} bytes")


def unpack(package: str, digest: str) -> dict[str, bytes]:
    """The files of an npm package, downloaded by npm and checked; ``digest``: its SHA-512 in Base64."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        content = next(Path(folder).glob("*.tgz")).read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != digest:
        raise click.ClickException(f"{package}: other bytes than expected")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


if __name__ == "__main__":
    main()
