"use strict";
// Under the pointer, or moved by the arrow keys: one moment on all charts, its values in their legends.
(() => {
  const series = JSON.parse(document.getElementById("series").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const moment = document.querySelector(".moment");
  const legends = [...document.querySelectorAll(".legend")].map((list) => [...list.querySelectorAll(".value")]);
  const last = series.times.length - 1;
  let shown = null;

  function show(index) {
    shown = index === null ? null : Math.min(last, Math.max(0, index));
    const left = shown === null ? 0 : (100 * (shown + 0.5)) / (last + 1);
    for (const plot of plots) {
      const cursor = plot.querySelector(".cursor");
      cursor.hidden = shown === null;
      cursor.style.left = `${left}%`;
      cursor.dataset.at = shown === null ? "" : series.times[shown];
      cursor.classList.toggle("late", left > 80);
    }
    legends.forEach((values, chart) =>
      values.forEach((value, line) => {
        value.textContent = shown === null ? value.dataset.note : series.charts[chart][line][shown];
        value.classList.toggle("now", shown !== null);
      }),
    );
    moment.textContent = shown === null ? "" : series.times[shown];
  }

  for (const plot of plots) {
    plot.tabIndex = 0;
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      show(Math.floor(((event.clientX - box.left) / box.width) * (last + 1)));
    });
    plot.addEventListener("pointerleave", () => show(null));
    plot.addEventListener("blur", () => show(null));
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) {
        event.preventDefault();
        show(shown === null ? (step > 0 ? 0 : last) : shown + step);
      } else if (event.key === "Escape") {
        show(null);
      }
    });
  }
})();
