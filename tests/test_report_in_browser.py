"""The page in headless Chromium: no error in the console, and everything that moves does."""

import io
import json
import shutil
import time
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib import image

from clips import picture
from clips import write as write_video
from report_cases import EVIL_VIDEO, truths_and_predictions, write_page
from segtad_jax.evaluation.operating_point import assess
from segtad_jax.evaluation.report.media import Media, address_from
from segtad_jax.evaluation.report.page import write_report
from segtad_jax.evaluation.scoring import evaluate
from segtad_jax.postprocess import Detection
from segtad_jax.prepare.report import write_page as write_data_page
from test_look import data_report, look_of
from test_recordings_page import CLASSES, found, write

webdriver = pytest.importorskip("selenium.webdriver")
By = pytest.importorskip("selenium.webdriver.common.by").By
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver here (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1360,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


BARS = "#timeline rect.detection"


class Page:
    """What a person does with the page."""

    def __init__(self, browser, path):
        self.browser = browser
        start = time.monotonic()
        browser.get(path.as_uri())
        while self.run("return document.documentElement.dataset.ready") != "true":
            assert time.monotonic() - start < 60, browser.get_log("browser")
            time.sleep(0.02)
        self.seconds = time.monotonic() - start

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def click(self, node):
        """Where it is, even if one would have to scroll."""
        self.run("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", node)

    def wait(self, script, value, *arguments):
        start = time.monotonic()
        while self.run(script, *arguments) != value:
            assert time.monotonic() - start < 60, (script, self.console())
            time.sleep(0.02)

    def find(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def set(self, name, value):
        script = """
            const node = document.getElementById(arguments[0]);
            node.value = arguments[1];
            node.dispatchEvent(new Event("input")); node.dispatchEvent(new Event("change"));
        """
        self.run(script, name, value)

    def listed(self):
        return [row.text for row in self.find("#list .id")]

    def console(self):
        return self.browser.get_log("browser")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(browser, path):
    page = Page(browser, path)
    yield page
    assert page.console() == []


def test_names_stay_text(page) -> None:
    assert page.browser.title == "A run with <i>everything</i>"
    page.set("order", "id")
    assert EVIL_VIDEO in page.listed()
    page.set("search", "</script>")
    assert page.listed() == [EVIL_VIDEO]
    assert page.find("#heading h3")[0].text == EVIL_VIDEO
    assert page.browser.title == "A run with <i>everything</i>"


def test_worst_and_best_first(page) -> None:
    def scores():
        return [float(row.text) for row in page.find("#list .ap") if row.text != "\N{EN DASH}"]

    worst = scores()
    assert len(worst) == 13
    assert worst == sorted(worst)
    assert page.listed()[0] == "video 00"  # it has no prediction
    page.set("order", "best")
    assert scores() == sorted(worst, reverse=True)
    page.set("order", "lost")
    first = page.find("#list button span:nth-child(2)")[0].text
    page.set("order", "gained")
    assert float(page.find("#list button span:nth-child(2)")[0].text) > float(first)


def test_search_by_id_and_class(page) -> None:
    page.set("search", "VIDEO 0")
    assert sorted(page.listed()) == [f"video {index:02d}" for index in range(10)]
    assert page.find("#found")[0].text == "10 of 14 videos"
    everyone = set(page.listed())
    page.set("class", "1")
    assert set(page.listed()) < everyone
    page.set("search", "nobody")
    assert page.listed() == []


def test_the_slider_hides_low_scores(page) -> None:
    page.set("search", "video 01")
    every = len(page.find("#timeline .detection"))
    assert page.find("#threshold")[0].text == "any"
    assert page.find("#shown")[0].text == f"{every} of {every} detections"
    assert every == 40
    page.set("score", "60")
    least = float(page.find("#threshold")[0].text)
    data = json.loads(page.run("return document.getElementById('data').textContent"))
    video = next(video for video in data["videos"] if video["id"] == "video 01")
    expected = sum(score * data["score_unit"] >= least for score in video["detections"][3::5])
    assert len(page.find("#timeline .detection")) == pytest.approx(expected, abs=1)
    assert 0 < expected < every
    page.set("score", "100")
    assert len(page.find("#timeline .detection")) <= 1
    assert page.find("#timeline .truth.missed")


def test_the_real_slider_and_search_box(page) -> None:
    """With keys, as a person does it."""
    from selenium.webdriver.common.keys import Keys

    page.find("#search")[0].send_keys("video 03")
    assert page.listed() == ["video 03"]
    before = len(page.find("#timeline .detection"))
    page.find("#score")[0].send_keys(Keys.END)
    assert len(page.find("#timeline .detection")) < before


def test_hovering_tells_the_numbers(page) -> None:
    page.set("search", "video 02")
    bar = page.find("#timeline .detection")[0]
    page.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", bar)
    webdriver.ActionChains(page.browser).move_to_element(bar).perform()
    tip = page.find("#tip")[0]
    assert tip.is_displayed()
    lines = tip.text.splitlines()
    assert lines[1].count(" s") == 2
    assert lines[2].startswith("score 0.")
    assert "tIoU" in lines[2]
    webdriver.ActionChains(page.browser).move_to_element(page.find("h1")[0]).perform()
    assert not tip.is_displayed()


def test_truths_stand_above_detections_and_curves_where_there_are_some(page) -> None:
    page.set("search", "video 01")
    classes = page.run("""
        return [...document.querySelectorAll("#timeline svg > *")].map(n => n.classList[0]);
    """)
    lane = classes[classes.index("label") + 1 :]
    assert lane[0] == "truth"
    assert lane.index("truth") < lane.index("step") < lane.index("curve") < lane.index("hit")
    page.set("search", "video 02")
    assert not page.find("#timeline .curve")
    page.set("search", "video 00")
    assert page.find("#timeline .truth.missed")
    assert not page.find("#timeline .detection")


def test_tables_sort(page) -> None:
    def column(number):
        cells = page.find(f"#classes td:nth-child({number})")
        return [float(cell.get_attribute("textContent")) for cell in cells]

    from selenium.webdriver.common.keys import Keys

    heading = page.find("#classes th:nth-child(2) button")[0]
    page.run("arguments[0].click()", heading)
    assert column(2) == sorted(column(2))
    heading.send_keys(Keys.ENTER)  # reached by tabulator, as every button is
    assert column(2) == sorted(column(2), reverse=True)
    sorted_by = page.find("#classes th:nth-child(2)")[0].get_attribute("aria-sort")
    assert sorted_by == "descending"


def test_a_narrow_window(page) -> None:
    page.browser.set_window_size(500, 900)
    try:
        wide = page.run("return document.documentElement.scrollWidth > window.innerWidth")
        assert not wide
    finally:
        page.browser.set_window_size(1360, 1000)


@pytest.mark.parametrize("width", [390, 1440])
def test_the_data_page_fits_any_window(browser, tmp_path, width) -> None:
    looks = [look_of(label) for label in ("sit", "a" * 90, EVIL_VIDEO)]
    page = tmp_path / "report.html"
    write_data_page(page, data_report(), looks)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        drawn = "return [...document.querySelectorAll('.look img')].map(i => i.naturalWidth > 0)"
        assert browser.execute_script(drawn) == [True] * 3
        assert browser.title.startswith("mine")
        assert browser.get_log("browser") == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def thresholds(browser, tmp_path):
    """A page at thresholds, with every number that belongs to them."""
    ground_truth, predictions, durations = truths_and_predictions(0)
    metrics = evaluate(ground_truth, predictions, durations=durations)
    metrics["operating_point"] = assess(ground_truth, predictions, None)
    path = tmp_path / "page.html"
    write_report(path, ground_truth, predictions, metrics, durations=durations)
    page = Page(browser, path)
    page.point = metrics["operating_point"]
    yield page
    assert page.console() == []


def test_it_opens_at_the_thresholds(thresholds) -> None:
    page = thresholds
    least = page.point["thresholds"]
    _, predictions, _ = truths_and_predictions(0)
    page.set("search", "video 01")
    expected = sum(score >= least[label] for _, _, label, score in predictions["video 01"])
    assert 0 < expected < 40
    assert len(page.find("#timeline .detection")) == pytest.approx(expected, abs=1)  # rounded
    own = page.find("#own")[0]
    assert own.get_attribute("aria-pressed") == "true"
    own.click()
    assert len(page.find("#timeline .detection")) == 40
    assert page.find("#threshold")[0].text == "any"
    own.click()
    page.set("score", "99")
    assert own.get_attribute("aria-pressed") == "false"
    assert len(page.find("#timeline .detection")) < expected
    page.set("search", "video 0")  # another one keeps the choice
    page.run("document.querySelectorAll('#list button')[3].click()")
    assert own.get_attribute("aria-pressed") == "false"


def test_without_thresholds_there_is_no_button(page) -> None:
    assert not page.find("#own")[0].is_displayed()
    assert not page.find("#thresholds")


def test_the_numbers_at_the_thresholds(thresholds) -> None:
    page = thresholds
    data = json.loads(page.run("return document.getElementById('data').textContent"))
    assert data["confidence"] == page.point["knots"]
    cards = [card.text.split() for card in page.find("#thresholds .card")]
    assert ["right", str(page.point["right"])] in cards
    assert ["F1", f"{100 * page.point['f1']:.2f}"] in cards
    cells = [cell.text for cell in page.find("#thresholds .matrix td")]
    assert sum(map(int, filter(None, cells))) == sum(n for *_, n in page.point["confusion"])
    text = page.find("#thresholds")[0].text
    assert "not calibrated" in text
    assert f"confidences are off by {100 * page.point['confidence']['error']:.1f} points" in text
    assert [image.get_attribute("alt") for image in page.find("#thresholds img")] == [
        "reliability", "reliability of confidences",
    ]  # fmt: skip


def test_new_recordings(browser, tmp_path) -> None:
    path = tmp_path / "new.html"
    detections = found(3)
    detections["new 0001"] = detections["new 0001"][:1]
    knots = [[0.2, 0.1], [0.8, 0.5], [1.0, 0.9]]
    write(path, detections, failures={EVIL_VIDEO: "is empty"}, confidence=knots)
    page = Page(browser, path)
    assert page.listed() == ["new 0000", "new 0001", "new 0002"]
    assert [row.text for row in page.find("#list .ap")] == ["3", "1", "3"]
    assert len(page.find("#timeline .detection")) == 3
    assert len(page.find("#timeline .signal")) == 4  # two channels, two pieces
    assert not page.find("#timeline .truth")
    page.find("#own")[0].click()
    assert len(page.find("#timeline .detection")) == 6
    page.set("order", "fewest")
    assert page.listed()[0] == "new 0001"
    page.set("class", str(sorted(CLASSES).index("run")))
    assert page.listed() == ["new 0000", "new 0002"]
    bar = page.find("#timeline .detection")[0]
    page.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", bar)
    webdriver.ActionChains(page.browser).move_to_element(bar).perform()
    assert page.find("#tip")[0].text.splitlines()[2] == "score 0.9, confidence 70 %"
    assert "about 80 in 100 detections were right" in page.find(".scope")[0].text
    heading = page.find("#classes th:nth-child(5) button")[0]
    page.run("arguments[0].click(); arguments[0].click()", heading)
    assert page.find("#classes tbody td")[0].text == "run"  # 30 s of it
    assert page.find("#failures td")[0].text == EVIL_VIDEO
    assert page.console() == []
    everything_failed = tmp_path / "failed.html"
    write(everything_failed, {}, failures={"bad": "is empty"})
    page = Page(browser, everything_failed)
    assert page.find("#failures td")[1].text == "is empty"
    assert page.console() == []


@pytest.mark.parametrize("width", [390, 768])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_telephone(browser, thresholds, tmp_path, width, dark) -> None:
    write(tmp_path / "new.html", found(3), failures={"x" * 200: "y" * 300}, notes={"a" * 99: "b"})
    theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": theme})
    try:
        for name in ("page.html", "new.html"):
            page = Page(browser, tmp_path / name)
            assert page.run("return document.documentElement.scrollWidth") <= width
            color = page.run("return getComputedStyle(document.body).backgroundColor")
            brightness = sum(map(int, color[4:-1].split(", "))) / 3
            assert (brightness < 60) == dark
            assert page.console() == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_printing_shows_whole_tables_on_white(browser, thresholds) -> None:
    theme = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": theme})
    try:
        cut = thresholds.run("""
            return [...document.querySelectorAll(".scroll")].filter(
              (box) => getComputedStyle(box).overflowX !== "visible"
                || getComputedStyle(box).maxHeight !== "none").length;
        """)
        assert cut == 0
        ink = thresholds.run("return getComputedStyle(document.querySelector('h1')).color")
        assert max(map(int, ink[4:-1].split(", "))) < 80
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.mark.slow
def test_five_thousand_videos(browser, shared_data, tmp_path) -> None:
    """Every ActivityNet validation video with 200 predictions: small, and ready within 5 s."""
    path = shared_data / "activitynet13" / "sample_detection_prediction.json"
    results = json.loads(path.read_text())["results"]
    rng = np.random.default_rng(0)
    ground_truth, predictions = {}, {}
    for video, rows in results.items():
        truths = [(*row["segment"], row["label"]) for row in rows]
        ground_truth[video] = truths
        chosen = [truths[index] for index in rng.integers(len(truths), size=200)]
        times = np.array([row[:2] for row in chosen])
        shift = rng.normal(size=(200, 2)) * 0.3 * (times[:, 1:] - times[:, :1])
        moved = np.sort(np.maximum(times + shift, 0), axis=1).tolist()
        predictions[video] = [
            (start, end, row[2], score)
            for (start, end), row, score in zip(moved, chosen, rng.random(200), strict=True)
        ]
    target = tmp_path / "large.html"
    write_report(target, ground_truth, predictions, evaluate(ground_truth, predictions))
    assert target.stat().st_size < 15e6
    page = Page(browser, target)
    assert page.seconds < 5
    assert page.find("#found")[0].text == "4,926 of 4,926 videos"
    assert len(page.listed()) == 100
    page.run("document.querySelector('#list .more').click()")
    assert len(page.listed()) == 200
    assert "170 more not on this page" in page.find("#shown")[0].text
    start = time.monotonic()
    page.set("search", "wONwHYy59Tc")
    page.set("score", "98")
    assert time.monotonic() - start < 1
    assert page.listed() == ["wONwHYy59Tc"]
    assert 0 < len(page.find("#timeline .detection")) < 30
    assert page.console() == []


@pytest.fixture
def film(tmp_path):
    """A page of new recordings with one video of 8 s, in which each picture is its number."""
    pictures = [picture(number) for number in range(200)]
    video = write_video(tmp_path / "a b#?%.webm", pictures, codec="libvpx-vp9")
    path = tmp_path / "pages" / "page.html"

    def media(_):
        jpeg = io.BytesIO()
        image.imsave(jpeg, pictures[0], format="jpeg")
        stills = [(2.0 * n, jpeg.getvalue()) for n in range(4)]
        return Media(address_from(path, video), stills)

    rows = [Detection(2.0, 5.0, "jump", 0.9), Detection(6.0, 7.5, "run", 0.4)]
    detections, durations = {"a b#?%": rows, "other": rows[1:]}, {"a b#?%": 8.0, "other": 8.0}
    write(path, detections, trace=None, threshold=0.2, durations=durations, media=media,
          caution="no truth")  # fmt: skip
    return path


def test_a_click_on_a_detection_goes_there(browser, film):
    page = Page(browser, film)
    player = page.find("#player")[0]
    assert player.is_displayed()
    assert page.run("return document.getElementById('player').src").endswith("/a%20b%23%3F%25.webm")
    assert len(page.find("#timeline image")) == 4
    for number, start in enumerate((2.0, 6.0)):
        page.click(page.find(BARS)[number])
        page.wait("const p = document.getElementById('player'); return p.currentTime", start)
    page.wait("return document.getElementById('player').readyState >= 2", True)
    head = page.run("return document.querySelector('.head').getBoundingClientRect().left")
    bar = page.run(
        "return document.querySelectorAll('rect.detection')[1].getBoundingClientRect().left"
    )
    assert head == pytest.approx(bar, abs=2)
    page.run("document.getElementById('player').currentTime = 1")  # as its own controls do
    page.wait("return document.querySelector('.head').getBoundingClientRect().left < arguments[0]",
              True, bar - 50)  # fmt: skip
    page.find("#list button")[1].click()
    page.wait("return document.getElementById('player').currentTime", 0)
    assert "no truth" in page.find("main")[0].text
    assert not page.console()


def test_stills_stand_for_a_video_that_cannot_play(browser, film):
    (film.parent.parent / "a b#?%.webm").write_bytes(b"no video")
    page = Page(browser, film)
    page.wait("return document.getElementById('player').hidden", True)
    assert "does not play ./../a b#?%.webm" in page.find("#unplayable")[0].text
    assert page.find("#still")[0].is_displayed()
    assert page.find("#still")[0].get_attribute("src").startswith("data:image/jpeg;base64,")
    page.click(page.find(BARS)[1])
    head = page.run("return document.querySelector('.head').getBoundingClientRect().left")
    bar = page.run(
        "return document.querySelectorAll('rect.detection')[1].getBoundingClientRect().left"
    )
    assert head == pytest.approx(bar, abs=2)
