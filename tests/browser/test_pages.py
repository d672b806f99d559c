"""The pages of `--html` of `phiq eval`, `compare` and `quantize`: well-formed, drawn, sorted, legible."""
import base64
import re
import xml.etree.ElementTree as ElementTree

import pytest

EVAL = ("eval_one", "eval_three", "eval_twenty", "eval_alone", "eval_equal", "eval_broken")
COMPARE = ("compare_small", "compare_usual", "compare_large", "compare_equal", "compare_broken")
QUANTIZE = ("quantize_small", "quantize_usual", "quantize_broken")
PAGES = EVAL + COMPARE + QUANTIZE
# Pages without a plot: one model without a reference, and weights or models that are equal.
UNDRAWN = ("eval_alone", "eval_equal", "compare_equal")


def text_of(pages, name):
    return (pages / f"{name}.html").read_text("utf-8")


# --- the files -------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", PAGES)
def test_page_is_well_formed(pages, name):
    # What is in script and style is no markup in HTML, but would be in XML.
    text = re.sub(r"<(script|style)>.*?</\1>", r"<\1></\1>", text_of(pages, name), flags=re.DOTALL)
    root = ElementTree.fromstring(text)
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert sorted(set(ids)) == sorted(ids)
    for element in root.iter():
        for target in element.attrib.get("aria-labelledby", "").split():
            assert target in ids
    rows = [row for table in root.iter("table") for row in table.iter("tr")]
    assert len({len(row) for row in rows}) == 1  # as many cells as heads
    assert len([e for e in root.iter() if e.tag == "script"]) == 1


def test_page_has_no_number_that_svg_lacks(pages):
    for name in PAGES:
        for svg in re.findall(r"<svg class=\"plot\".*?</svg>", text_of(pages, name), re.DOTALL):
            geometry = re.findall(r" (?:d|x|y|width|height|fill-opacity|viewBox)=\"([^\"]*)\"", svg)
            assert geometry
            for value in geometry:
                assert not re.search("nan|inf", value), value


def test_names_of_files_stay_text(pages):
    for name in ("eval_equal", "eval_broken", "compare_broken", "quantize_broken"):
        text = text_of(pages, name)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&quot;&#39;\\x01\\xff" in text
        assert "alert(1)</script>" not in text


# --- the pages in a browser ------------------------------------------------------------------------

@pytest.mark.parametrize("name", PAGES)
def test_plots_are_drawn(pages, browser, name):
    browser.open(pages / f"{name}.html")
    plots = browser.evaluate("""
        Array.from(document.querySelectorAll("svg.plot"), (svg) => ({
          frame: svg.getBoundingClientRect().toJSON(),
          marks: Array.from(svg.querySelectorAll(".mark"), (m) => m.getBoundingClientRect().toJSON()),
        }))""")
    assert (plots == []) == (name in UNDRAWN)
    for plot in plots:
        frame = plot["frame"]
        assert plot["marks"]
        for mark in plot["marks"]:
            assert mark["width"] > 0 and mark["height"] > 0
            # A dot on the rim reaches a little beyond it.
            assert frame["left"] - 8 <= mark["left"] and mark["right"] <= frame["right"] + 8
            assert frame["top"] - 8 <= mark["top"] and mark["bottom"] <= frame["bottom"] + 8
    assert browser.messages == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1200, 400])
def test_texts_of_a_plot_do_not_touch(pages, browser, name, width):
    browser.open(pages / f"{name}.html", width)
    touching = browser.evaluate("""
        Array.from(document.querySelectorAll("svg.plot"), (svg) => {
          const texts = Array.from(svg.querySelectorAll("text"));
          const boxes = texts.map((text) => text.getBoundingClientRect());
          // Lines of text may share a rim: boxes are higher than letters.
          const slack = 0.35 * boxes[0].height;
          const pairs = [];
          for (let i = 0; i !== boxes.length; ++i)
            for (let j = 0; j !== i; ++j)
              if (boxes[i].left < boxes[j].right && boxes[j].left < boxes[i].right &&
                  boxes[i].top + slack < boxes[j].bottom && boxes[j].top + slack < boxes[i].bottom)
                pairs.push(texts[i].textContent + " / " + texts[j].textContent);
          return pairs;
        }).flat()""")
    assert touching == []
    # Only tables may be wider than the screen, and they scroll by themselves.
    assert browser.evaluate("document.documentElement.scrollWidth") == width


def test_a_table_that_is_cut_says_so(pages, browser):
    browser.open(pages / "eval_twenty.html", 400)
    widths = browser.evaluate("""(() => {
        const box = document.querySelector(".scroll");
        return [box.scrollWidth, box.clientWidth];
    })()""")
    assert widths[0] > widths[1]
    style = browser.evaluate("""(() => {
        const style = getComputedStyle(document.querySelector(".scroll"));
        return [style.backgroundImage, style.backgroundAttachment];
    })()""")
    assert style[0].count("linear-gradient") == 4 and style[1] == "local, local, scroll, scroll"


COLUMN = """
    (head) => {
      const heads = Array.from(document.querySelectorAll("thead th"));
      const column = heads.findIndex((h) => h.textContent === head);
      return Array.from(document.querySelectorAll("tbody tr"), (row) => row.cells[column].textContent);
    }"""


def column(browser, head):
    return browser.evaluate(f"({COLUMN})({head!r})")


def click_head(browser, head):
    x, y = browser.evaluate(f"""(() => {{
        const button = Array.from(document.querySelectorAll("thead button"))
            .find((b) => b.textContent === {head!r});
        button.scrollIntoView({{block: "center"}});
        const box = button.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    }})()""")
    browser.click(x, y)


def number(text):
    """What a cell says, without its error; "3.21×10⁻⁵" too."""
    match = re.match(r"\(?(−?[\d.,]+)(?: ± [\d.]+)?\)?(?:×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text)
    mantissa = float(match[1].replace(",", "").replace("−", "-"))
    exponent = (match[2] or "⁰").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return mantissa * 10.0 ** int(exponent)


def test_click_sorts_numbers_by_value(pages, browser):
    browser.open(pages / "eval_twenty.html")
    before = column(browser, "Mean KL, nats")
    click_head(browser, "Mean KL, nats")
    after = column(browser, "Mean KL, nats")
    assert after[-1] == "–"  # the reference has none
    values = [number(text) for text in after[:-1]]
    assert len(values) == 20
    assert values == sorted(values, reverse=True)
    assert sorted(after) == sorted(before) and after != before
    # Sorted as text the small ones, "(6.9 ± 0.1)×10⁻⁸", would be among the others.
    assert after[:-1] != sorted(after[:-1], reverse=True)

    click_head(browser, "Mean KL, nats")
    again = column(browser, "Mean KL, nats")
    assert again[-1] == "–"
    assert [number(text) for text in again[:-1]] == sorted(values)
    assert browser.evaluate("document.querySelector('[aria-sort]').textContent") == "Mean KL, nats"


def test_click_sorts_names_with_their_numbers(pages, browser):
    browser.open(pages / "compare_usual.html")
    click_head(browser, "Tensor")
    names = column(browser, "Tensor")
    layers = [int(name.split(".")[2]) for name in names if "layers" in name]
    assert layers == sorted(layers)  # layer 2 before layer 10
    click_head(browser, "Tensor")
    assert column(browser, "Tensor") == names[::-1]


def test_click_sorts_what_is_no_number(pages, browser):
    browser.open(pages / "compare_broken.html")
    click_head(browser, "SNR, dB")
    cells = column(browser, "SNR, dB")
    assert cells[0] == "∞" and cells[-1] == "−∞"
    click_head(browser, "Share of error")
    assert column(browser, "Share of error")[-1] == "NaN"
    click_head(browser, "Share of error")
    assert column(browser, "Share of error")[-1] == "NaN"


CONTRASTS = """
    (() => {
      const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
      const luminance = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = Array.from(canvas.getImageData(0, 0, 1, 1).data, (v) => {
          const c = v / 255;
          return c > 0.04045 ? ((c + 0.055) / 1.055) ** 2.4 : c / 12.92;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ratio = (a, b) => {
        const [x, y] = [luminance(a), luminance(b)];
        return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
      };
      const backgroundOf = (element) => {
        for (let e = element; e; e = e.parentElement) {
          const colour = getComputedStyle(e).backgroundColor;
          if (colour !== "rgba(0, 0, 0, 0)") return colour;
        }
        return "white";
      };
      const least = {text: 21, mark: 21, page: backgroundOf(document.body)};
      for (const element of document.querySelectorAll("body *")) {
        const hasText = Array.from(element.childNodes).some(
            (n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
        if (!hasText || element.closest("script, title")) continue;
        const style = getComputedStyle(element);
        const colour = element.closest("svg") ? style.fill : style.color;
        least.text = Math.min(least.text, ratio(colour, backgroundOf(element)));
      }
      for (const mark of document.querySelectorAll("svg.plot .dot"))
        least.mark = Math.min(least.mark, ratio(getComputedStyle(mark).fill, backgroundOf(mark)));
      return least;
    })()"""


@pytest.mark.parametrize("media, scheme", [("screen", "light"), ("screen", "dark"), ("print", "dark")])
@pytest.mark.parametrize("name", ["eval_broken", "eval_twenty", "compare_usual"])
def test_colours_have_contrast(pages, browser, name, media, scheme):
    browser.open(pages / f"{name}.html")
    browser.media(media, scheme)
    try:
        least = browser.evaluate(CONTRASTS)
    finally:
        browser.media()
    assert least["text"] >= 4.5  # WCAG 2.1 criterion 1.4.3
    assert least["mark"] >= 3  # criterion 1.4.11
    # Paper is white whatever the screen is.
    assert (least["page"] == "rgb(255, 255, 255)") == (media == "print" or scheme == "light")


@pytest.mark.parametrize("name", ["eval_twenty", "compare_large"])
def test_print_shows_all(pages, browser, name):
    browser.open(pages / f"{name}.html", 688)  # A4 less its margins, in CSS pixels
    browser.media("print")
    try:
        hidden = browser.evaluate("""
            Array.from(document.querySelectorAll("main *")).filter((e) => {
              const box = e.getBoundingClientRect();
              // Tooltips are not drawn. Grid lines have no height of their own.
              if (e.closest("title") || e.matches(".grid, .quantile, .line")) return false;
              if (e.matches("dd:empty")) return false;
              return box.width === 0 || box.height === 0 || box.left < -1 || box.right > innerWidth + 1;
            }).map((e) => e.outerHTML.slice(0, 200))""")
        clipped = browser.evaluate("""
            Array.from(document.querySelectorAll("main *")).filter(
                (e) => !e.closest("svg") && getComputedStyle(e).overflowX !== "visible").length""")
        pdf = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    finally:
        browser.media()
    assert hidden == []
    assert clipped == 0
    n_pages = len(re.findall(rb"/Type /Page\b", pdf))
    # 20 models: figures, table, four plots. 579 tensors: about fifty to the page.
    assert 2 <= n_pages <= (4 if name == "eval_twenty" else 16)
