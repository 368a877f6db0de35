"use strict";
// While a take is heard a line goes along its drawing; a click on the drawing, or on a time, plays from there.
for (const take of document.querySelectorAll(".take")) {
  const audio = take.querySelector("audio");
  if (!audio) continue;
  const play = (time) => {
    audio.currentTime = Math.max(0, time);
    audio.play().catch(() => {});
  };
  const rows = [...take.querySelectorAll("svg")].map((svg) => {
    const [from, to, left, right] = ["from", "to", "left", "right"].map((name) => Number(svg.dataset[name]));
    const { width, height } = svg.viewBox.baseVal;
    const line = document.createElementNS(svg.namespaceURI, "line");
    line.setAttribute("class", "cursor");
    line.setAttribute("y2", height);
    line.setAttribute("visibility", "hidden");
    svg.append(line);
    svg.style.cursor = "pointer";
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * width;
      if (x >= left && x <= right) play(from + ((x - left) / (right - left)) * (to - from));
    });
    return (time, playing) => {
      const here = time >= from && time < to;
      line.setAttribute("visibility", here ? "visible" : "hidden");
      if (!here) return;
      const x = left + ((time - from) / (to - from)) * (right - left);
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      // On a narrow screen the drawing is wider than its window.
      const view = svg.parentElement;
      if (playing) view.scrollLeft = (x / width) * view.scrollWidth - view.clientWidth / 2;
    };
  });
  const show = () => {
    rows.forEach((row) => row(audio.currentTime, !audio.paused));
    if (!audio.paused) requestAnimationFrame(show);
  };
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    show();
  });
  audio.addEventListener("seeked", () => audio.paused && show());
  for (const link of take.querySelectorAll("[data-at]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      play(Number(link.dataset.at));
    });
  }
}
