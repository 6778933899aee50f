"""Pictures of TensorBoard for the docs, by a headless Chromium.

    python examples/compare_methods.py --tasks adding
    python docs/screenshots.py runs/compare_methods/logs/adding docs/images

Starts TensorBoard on the loopback interface, opens the pages that
GradientDiagnostics prepares, and writes tensorboard_comparison.png,
tensorboard_heat_map.png and tensorboard_card.png. Needs TensorBoard, Selenium
(`pip install selenium`), Chromium and its driver (Debian: packages chromium and
chromium-driver).
"""

import argparse
import contextlib
import pathlib
import shutil
import subprocess
import sys
import time

from selenium import webdriver

SECONDS = 12
PAGES = {
    "comparison": ("custom_scalars&_smoothingWeight=0", 1500, 1150),
    "heat_map": ("images&tagFilter=state_gradients", 1500, 900),
    "card": ("text", 1500, 900),
}
# No window, no sandbox for root, and nothing that looks for a network.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextlib.contextmanager
def tensorboard(folder):
    """A server on a free port of the loopback interface; gives its address."""
    # Its name alone: pages show what is given here.
    options = ["--logdir", folder.name, "--host", "127.0.0.1", "--port", "0"]
    # Images of all steps, not a sample of them.
    options += ["--samples_per_plugin", "images=100"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *options],
        cwd=folder.resolve().parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "http://" in line:
                yield "http://" + line.split("http://")[1].split()[0]
                return
        raise RuntimeError("TensorBoard did not start:\n" + "".join(lines))
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def chromium():
    options = webdriver.ChromeOptions()
    for option in OPTIONS:
        options.add_argument(option)
    options.binary_location = shutil.which("chromium")
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    try:
        yield driver
    finally:
        driver.quit()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("logs", type=pathlib.Path, help="folder of runs")
    parser.add_argument("out", type=pathlib.Path, help="folder of pictures")
    settings = parser.parse_args()
    with tensorboard(settings.logs) as address, chromium() as driver:
        for name, (page, width, height) in PAGES.items():
            driver.set_window_size(width, height)
            driver.get("about:blank")
            driver.get(f"{address}#{page}")
            # Charts draw themselves after the page has come.
            time.sleep(SECONDS)
            path = settings.out / f"tensorboard_{name}.png"
            driver.save_screenshot(str(path))
            print(path)


if __name__ == "__main__":
    main()
