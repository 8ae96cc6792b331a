// Run in the page by tests/page/run: returns sentences about what is wrong with how it looks. `wanted` are the width of the window and
// the scheme of colours. Details are opened first, so that nothing hides in them.
((wanted) => {
  const wrong = [];
  const say = (kind, text) => wrong.push(`${kind}: ${text.replace(/\s+/g, " ").slice(0, 300)}`);
  document.querySelectorAll("details").forEach((details) => details.setAttribute("open", ""));

  const root = document.documentElement;
  if (root.scrollWidth > wanted.width || window.innerWidth > wanted.width)
    say("overflow", `the page is ${Math.max(root.scrollWidth, window.innerWidth)} px wide in a window of ${wanted.width}`);

  // Every text that is shown, with the rectangles of its lines.
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest("title, desc, style, script") || !parent.checkVisibility({ visibilityProperty: true })) continue;
    if (getComputedStyle(parent).clipPath !== "none") continue; // for readers of screens alone
    const range = document.createRange();
    range.selectNodeContents(node);
    const lines = parent.namespaceURI.endsWith("svg") ? [parent.getBoundingClientRect()] : [...range.getClientRects()];
    // What a box has scrolled away is not shown.
    const box = parent.closest(".scroll")?.getBoundingClientRect();
    const shown = ({ left, right, top, bottom, width, height }) => width > 0.5 && height > 0.5 && (!box || (left >= box.left - 1 && right <= box.right + 1))
      ? [{ left, right, top, bottom, width, height }] : [];
    texts.push({ node, parent, lines: lines.flatMap(shown) });
  }
  if (texts.length < 20) say("empty", `${texts.length} texts are shown`);

  for (const { node, parent, lines } of texts) {
    const size = parseFloat(getComputedStyle(parent).fontSize);
    if (size < 11) say("small", `${size} px: ${node.data}`);
    const drawing = parent.ownerSVGElement && parent.closest("svg");
    let outer = drawing;
    while (outer?.ownerSVGElement) outer = outer.ownerSVGElement;
    const scroll = parent.closest(".scroll");
    for (const line of lines) {
      if (outer) {
        const box = outer.getBoundingClientRect();
        if (line.left < box.left - 1 || line.right > box.right + 1 || line.top < box.top - 1 || line.bottom > box.bottom + 1)
          say("clipped", `leaves its drawing: ${node.data}`);
      }
      if (!scroll && (line.left < -0.5 || line.right > wanted.width + 0.5)) say("clipped", `leaves the page: ${node.data}`);
    }
    // Whatever cuts off what does not fit into it.
    for (let around = parent; around && around !== scroll; around = around.parentElement) {
      const style = getComputedStyle(around);
      if (style.overflowX === "visible" || around === document.body || around === root || around.namespaceURI.endsWith("svg")) continue;
      const box = around.getBoundingClientRect();
      if (lines.some((line) => line.right > box.right + 1 || line.left < box.left - 1)) say("clipped", `cut off: ${node.data}`);
    }
  }

  // Two texts in the same place. By their tops, so that only neighbours are compared.
  const all = texts.flatMap((text) => text.lines.map((line) => ({ text, line }))).sort((a, b) => a.line.top - b.line.top);
  for (let i = 0; i < all.length; i++) {
    for (let j = i + 1; j < all.length && all[j].line.top < all[i].line.bottom - 2; j++) {
      const [a, b] = [all[i], all[j]];
      if (a.text.node === b.text.node) continue;
      const across = Math.min(a.line.right, b.line.right) - Math.max(a.line.left, b.line.left);
      const down = Math.min(a.line.bottom, b.line.bottom) - Math.max(a.line.top, b.line.top);
      // Letters do not fill the height of their line.
      if (across > 1 && down > 4) say("overlap", `${a.text.node.data} | ${b.text.node.data}`);
    }
  }

  const numbers = (colour) => {
    const found = colour.match(/^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/);
    return found && { rgb: found.slice(1, 4).map(Number), alpha: found[4] === undefined ? 1 : Number(found[4]) };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const paper = numbers(getComputedStyle(document.body).backgroundColor);
  const light = paper.alpha === 1 ? luminance(paper.rgb) : NaN;
  if (!(wanted.scheme === "dark" ? light < 0.1 : light > 0.85)) say("scheme", `the page is not ${wanted.scheme}: ${getComputedStyle(document.body).backgroundColor}`);

  // What is painted behind the middle of a text: the first thing there that has a colour and is no text, no line and no smaller.
  const behind = (parent, line) => {
    for (const element of document.elementsFromPoint(line.left + line.width / 2, line.top + line.height / 2)) {
      const style = getComputedStyle(element);
      if (element.namespaceURI.endsWith("svg")) {
        const box = element.getBoundingClientRect();
        if (!["rect", "path", "circle"].includes(element.tagName) || box.height < line.height * 0.7 || box.width < line.width * 0.9) continue;
        const fill = numbers(style.fill);
        if (fill && fill.alpha === 1) return fill.rgb;
      } else {
        const ground = numbers(style.backgroundColor);
        if (ground && ground.alpha === 1) return ground.rgb;
      }
    }
    return paper.rgb;
  };
  let compared = 0;
  for (const { node, parent, lines } of texts) {
    if (lines.length === 0) continue;
    const style = getComputedStyle(parent);
    const colour = numbers(parent.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const ratio = colour && colour.alpha === 1 ? contrast(colour.rgb, behind(parent, lines[0])) : 0;
    if (ratio < 4.5) say("contrast", `${ratio.toFixed(2)}: ${node.data}`);
    compared++;
  }
  const visible = texts.filter(({ lines }) => lines.length > 0).length;
  if (compared < visible) say("contrast", `only ${compared} of ${visible} texts were compared`);
  return [...new Set(wrong)];
})
