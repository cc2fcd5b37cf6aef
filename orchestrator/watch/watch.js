"use strict";
// Replaces the parts of the page that changed, as the server sends them.
const main = document.querySelector("main");
const link = document.getElementById("link");
const connection = document.getElementById("connection");
const pause = document.getElementById("pause");
const here = new URLSearchParams(location.search);
let source = null;
let seen = main.dataset.seen;

function say(text, isLost = false) {
  connection.textContent = text;
  link.classList.toggle("lost", isLost);
}

function show(parts) {
  for (const [name, html] of Object.entries(parts)) {
    const place = document.getElementById(name);
    if (place) place.innerHTML = html;
  }
  entitle();
}

function entitle() {
  const title = document.querySelector("[data-title]");
  if (title) document.title = `${title.dataset.title} · layerwise`;
}

function connect() {
  const query = new URLSearchParams({ token: here.get("token"), sweep: here.get("sweep") || "", seen });
  source = new EventSource("events?" + query);
  source.addEventListener("parts", (event) => {
    seen = event.lastEventId;
    show(JSON.parse(event.data));
    say(`updated ${new Date().toLocaleTimeString("en-GB")}`);
  });
  source.onopen = () => say("live");
  source.onerror = () => {
    say(source.readyState === EventSource.CLOSED ? "the server refused; load the page again" : "no connection, trying again", true);
  };
}

pause.hidden = false;
pause.addEventListener("click", () => {
  if (source) {
    source.close();
    source = null;
    say("paused");
  } else {
    connect();
  }
  pause.textContent = source ? "Pause" : "Go on";
});
entitle();
connect();
