// Renders what arithmatex has marked. A page without formulas loads nothing.
(() => {
  const formulas = document.querySelectorAll(".arithmatex");
  if (!formulas.length) return;
  const folder = new URL("katex/", document.currentScript.src);

  const taken = (node, pattern) => {
    const text = node?.nodeType === Node.TEXT_NODE ? node.data : "";
    const [found] = text.match(pattern);
    if (found) node.data = text.replace(pattern, "");
    return found;
  };

  // No line ends between a short formula and a comma or bracket beside it.
  const keep = (formula) => {
    if (formula.offsetWidth > 160) return;
    const before = taken(formula.previousSibling, /\S*$/);
    const after = taken(formula.nextSibling, /^\S*/);
    const line = document.createElement("span");
    line.style.whiteSpace = "nowrap";
    formula.replaceWith(line);
    line.append(before, formula, after);
  };

  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("katex.min.css", folder);
  document.head.append(style);

  const script = document.createElement("script");
  script.src = new URL("katex.min.js", folder);
  script.onload = () => {
    for (const formula of formulas) {
      // Without \( and \), or \[ and \].
      const source = formula.textContent.trim().slice(2, -2);
      const displayMode = formula.tagName === "DIV";
      katex.render(source, formula, { displayMode, throwOnError: false });
      if (!displayMode) keep(formula);
    }
  };
  document.head.append(script);
})();
