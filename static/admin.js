// Keeps the numbers on a researcher's page fresh: what is marked data-live is taken from the page as it is now.
// Nothing is announced, and nothing that has the focus is replaced.

const EVERY_MS = 15000;
const box = document.getElementById("live");

async function refresh() {
  if (!box.checked || document.hidden) return;
  const response = await fetch(location.href).catch(() => null);
  if (response === null || !response.ok || response.redirected) return; // signed out, or no server: the page stays
  const news = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = news.getElementById(old.id);
    if (fresh === null || old.contains(document.activeElement) || fresh.innerHTML === old.innerHTML) continue;
    const [left, top] = [old.scrollLeft, old.scrollTop];
    old.replaceChildren(...fresh.childNodes);
    old.scrollTo(left, top);
  }
  document.title = news.title;
  document.querySelector("footer time").textContent = news.querySelector("footer time").textContent;
}

box.closest("label").hidden = false;
setInterval(refresh, EVERY_MS);
