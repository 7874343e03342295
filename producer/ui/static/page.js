"use strict";

// Now is live: the server sends its changing part every few seconds, and only what differs is
// touched, so that focus, selection and scrolling stay.
const live = document.getElementById("live");
let source = null;
let lookedAt = Date.now();

// how old the numbers are, while nobody gives new ones
window.setInterval(() => {
  const age = document.getElementById("age");
  if (age && document.body.classList.contains("disconnected")) {
    const seconds = Math.round((Date.now() - lookedAt) / 1000);
    age.textContent = seconds < 100 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
  }
}, 1000);

function follow() {
  if (!live || source || document.hidden) {
    return;
  }
  source = new EventSource(live.dataset.events);
  source.addEventListener("look", (event) => {
    document.body.classList.remove("disconnected");
    lookedAt = Date.now();
    Idiomorph.morph(live, event.data, { morphStyle: "innerHTML", ignoreActiveValue: true });
  });
  source.addEventListener("error", () => {
    document.body.classList.add("disconnected");
    if (source?.readyState === EventSource.CLOSED) {
      rest();
      window.setTimeout(follow, 3000); // a browser tries again by itself, but not after a refusal
    }
  });
}

function rest() {
  source?.close();
  source = null;
}

follow();
// a browser keeps six connections to one server: a page that nobody sees takes none
document.addEventListener("visibilitychange", () => (document.hidden ? rest() : follow()));
window.addEventListener("pagehide", rest);
window.addEventListener("pageshow", follow);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) {
    return;
  }
  let said = "copied";
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    window.getSelection().selectAllChildren(button.querySelector("code"));
    said = "selected";
  }
  const label = button.querySelector("span");
  label.textContent = said;
  document.getElementById("said").textContent = `${said}: ${button.dataset.copy}`;
  window.setTimeout(() => (label.textContent = "copy"), 2000);
});

for (const form of document.querySelectorAll("form[data-sends-itself]")) {
  form.addEventListener("change", () => form.requestSubmit());
}

for (const form of document.querySelectorAll("form[data-most-bytes]")) {
  const input = form.querySelector("input[type=file]");
  input.addEventListener("change", () => {
    const isLarge = input.files[0]?.size > Number(form.dataset.mostBytes);
    input.setCustomValidity(isLarge ? "This file is larger than what is taken here." : "");
    input.reportValidity();
  });
}
