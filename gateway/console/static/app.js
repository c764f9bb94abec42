// The pages work without this script. It keeps the live part of a page up to date, counts down, asks
// before dangerous forms, and has the keyboard's shortcuts.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // morph makes an element's content that of another one. It changes only what differs, so that the
  // focus, a selection, the scroll position and open <details> stay.
  function morph(from, to) {
    const old = [...from.childNodes];
    const ids = new Map(old.filter((n) => n.id).map((n) => [n.id, n]));
    let at = 0;
    for (const next of [...to.childNodes]) {
      let node = old[at];
      const same = next.id && ids.get(next.id);
      if (same && same !== node) {
        from.insertBefore(same, node || null);
        old.splice(old.indexOf(same), 1);
        old.splice(at, 0, same);
        node = same;
      }
      at++;
      if (!node) {
        from.appendChild(next);
      } else if (node.nodeType !== next.nodeType || node.nodeName !== next.nodeName || node.id !== next.id) {
        from.replaceChild(next, node);
      } else if (!node.isEqualNode(next)) {
        if (node.nodeType === Node.ELEMENT_NODE) morphElement(node, next);
        else node.nodeValue = next.nodeValue;
      }
    }
    for (const rest of old.slice(at)) rest.remove();
  }

  function morphElement(node, next) {
    if (node === document.activeElement && /^(INPUT|SELECT|TEXTAREA)$/.test(node.nodeName)) return;
    for (const { name } of [...node.attributes]) {
      if (!next.hasAttribute(name) && !(name === "open" && node.nodeName === "DETAILS")) node.removeAttribute(name);
    }
    for (const { name, value } of next.attributes) {
      if (name === "open" && node.nodeName === "DETAILS") continue;
      if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    }
    if (!node.dataset || !node.dataset.until) morph(node, next);
  }

  // Countdowns. The clock is that of the gateway when it served the page.
  const ahead = Date.now() - Number(document.body.dataset.now);
  const chinese = document.documentElement.lang.startsWith("zh");
  const units = [[86400, "d", "天"], [3600, "h", "小时"], [60, "min", "分"], [1, "s", "秒"]];

  function inWords(seconds) {
    const words = [];
    for (let i = 0; i < units.length && words.length < 2; i++) {
      const n = Math.floor(seconds / units[i][0]);
      seconds -= n * units[i][0];
      if (n > 0) words.push(n + " " + units[i][chinese ? 2 : 1]);
      else if (words.length) break;
    }
    return chinese ? words.join(" ") + "后" : "in " + words.join(" ");
  }

  function countDown() {
    for (const e of document.querySelectorAll("time[data-until]")) {
      const left = Math.round((Number(e.dataset.until) - Date.now() + ahead) / 1000);
      const text = left >= 1 ? inWords(left) : chinese ? "即将结束" : "now";
      if (e.textContent !== text) e.textContent = text;
    }
  }
  if (document.querySelector("time[data-until], [data-live]")) setInterval(countDown, 1000);

  // Live updates.
  const live = document.querySelector("[data-live]");
  if (live && window.EventSource) {
    const lost = byId("live-lost");
    let source = null;
    let again = 0;
    const stale = (yes) => { lost.hidden = !yes; };
    const connect = () => {
      clearTimeout(again);
      source = new EventSource(location.pathname + location.search);
      source.addEventListener("live", (e) => {
        stale(false);
        const next = document.createElement("template");
        next.innerHTML = e.data;
        morph(live, next.content);
        countDown();
      });
      source.addEventListener("stale", () => stale(true));
      source.addEventListener("end", () => { source.close(); location.reload(); });
      source.onerror = () => {
        stale(true);
        if (source.readyState === EventSource.CLOSED) again = setTimeout(connect, 3000);
      };
    };
    const close = () => { clearTimeout(again); if (source) source.close(); source = null; };
    // A page in the background is not kept up to date: a browser opens six connections to a host.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) close();
      else if (!source) connect();
    });
    window.addEventListener("pagehide", close);
    window.addEventListener("pageshow", (e) => { if (e.persisted && !source) connect(); });
    if (!document.hidden) connect();
  }

  // Confirmation of dangerous forms.
  const question = byId("confirm");
  document.addEventListener("submit", (e) => {
    const form = e.target;
    const text = (e.submitter && e.submitter.dataset.confirm) || form.dataset.confirm;
    if (!text || form.dataset.confirmed || !question || !question.showModal) return;
    e.preventDefault();
    byId("confirm-text").textContent = text;
    question.returnValue = "no";
    question.onclose = () => {
      if (question.returnValue !== "yes") return;
      form.dataset.confirmed = "yes";
      form.requestSubmit(e.submitter);
      delete form.dataset.confirmed;
    };
    question.showModal();
  });

  // Shortcuts.
  const keys = byId("keys");
  const open = byId("keys-open");
  if (keys && open) {
    open.hidden = false;
    open.addEventListener("click", () => keys.showModal());
    let leader = 0;
    document.addEventListener("keydown", (e) => {
      if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing || document.querySelector("dialog[open]")) return;
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(e.target.nodeName) || e.target.isContentEditable) {
        if (e.key === "Escape") e.target.blur();
        return;
      }
      if (e.timeStamp - leader < 1500 && /^[a-z]$/.test(e.key)) {
        leader = 0;
        const link = document.querySelector('nav.pages a[data-shortcut="' + e.key + '"]');
        if (link) { e.preventDefault(); link.click(); }
        return;
      }
      if (e.key === "g") leader = e.timeStamp;
      else if (e.key === "/") { e.preventDefault(); byId("nav-find").focus(); }
      else if (e.key === "?") { e.preventDefault(); keys.showModal(); }
    });
  }

  const current = document.querySelector("nav.pages a[aria-current]");
  if (current) current.parentNode.scrollLeft = current.offsetLeft - current.parentNode.clientWidth / 2 + current.clientWidth / 2;
})();
