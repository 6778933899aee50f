// Renders what arithmatex has marked. A page without formulas loads nothing.
(() => {
  const formulas = document.querySelectorAll(".arithmatex");
  if (!formulas.length) return;
  const folder = new URL("katex/", document.currentScript.src);

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
    }
  };
  document.head.append(script);
})();
