// Runs inside a page: what is wrong with it for people, by eye, ear and keyboard, and what it holds.
"use strict";
const problems = [];
const say = (rule, what) => problems.push(`${rule}: ${what}`);
const name = (e) => `<${e.tagName.toLowerCase()}${e.id ? " id=" + e.id : ""}> ${(e.textContent || "").trim().slice(0, 40)}`;
const rgba = (text) => { const n = (text.match(/[\d.]+/g) || []).map(Number); return n.length < 4 ? [...n, 1] : n; };
const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
const behind = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c; } return [255, 255, 255, 1]; };
if (document.documentElement.lang !== "en") say("lang", document.documentElement.lang);
if (!document.title.trim()) say("title", "none");
if (!document.querySelector("meta[name=viewport]")) say("viewport", "none");
for (const tag of ["main", "nav", "header", "h1"]) if (document.querySelectorAll(tag).length !== 1) say("landmark", tag);
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
for (const id of new Set(ids)) if (ids.filter((i) => i === id).length > 1) say("duplicate id", id);
let level = 0;
for (const e of document.querySelectorAll("h1,h2,h3,h4")) { const n = +e.tagName[1]; if (n > level + 1) say("heading order", name(e)); level = n; }
for (const e of document.querySelectorAll("img")) { if (!e.alt.trim()) say("alt", name(e)); if (!(e.complete && e.naturalWidth > 1)) say("picture", e.alt); }
const marks = {};
for (const e of document.querySelectorAll("svg")) {
  const box = e.getBoundingClientRect();
  if (e.getAttribute("role") !== "img" || !(e.getAttribute("aria-label") || "").trim()) say("svg name", e.id);
  if (box.width < 100 || box.height < 80) say("svg size", `${e.getAttribute("aria-label")} ${box.width}x${box.height}`);
  if (e.querySelectorAll("[id*=axes] path[clip-path], [id*=axes] g[clip-path] use").length < 1) say("svg empty", e.getAttribute("aria-label"));
}
for (const e of document.querySelectorAll("a")) {
  if (!e.textContent.trim()) say("link name", e.outerHTML.slice(0, 80));
  const to = e.getAttribute("href");
  if (to.startsWith("#") && !document.getElementById(to.slice(1))) say("link target", to);
  if (!to.startsWith("#") && !to.startsWith("data:")) say("link leaves the page", to);
}
for (const e of document.querySelectorAll("th")) if (!e.scope) say("th scope", name(e));
for (const e of document.querySelectorAll("[role=region]")) if (!e.getAttribute("aria-label")) say("region name", name(e));
for (const e of document.querySelectorAll("body *")) {
  if (e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(e).overflowX) && e.tabIndex < 0) say("scrolls without keyboard", name(e));
}
for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) say("tab order", name(e));
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walk.nextNode()); ) {
  const e = node.parentElement;
  if (!node.data.trim() || /SCRIPT|STYLE/.test(e.tagName.toUpperCase()) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  const ink = rgba(e instanceof SVGElement ? style.fill : style.color);
  const ratio = contrast(ink, behind(e));
  if (ratio < 4.5) say("contrast", `${ratio.toFixed(2)} ${name(e)}`);
}
const wide = document.documentElement.scrollWidth - window.innerWidth;
if (wide > 0) say("wider than the window", `${wide} of ${window.innerWidth}`);
const found = { problems, width: window.innerWidth, dark: matchMedia("(prefers-color-scheme: dark)").matches,
  paper: getComputedStyle(document.body).backgroundColor, charts: document.querySelectorAll("svg").length,
  pictures: document.querySelectorAll("img").length, downloads: document.querySelectorAll("a[download]").length };
const answer = "<pre>" + btoa(unescape(encodeURIComponent(JSON.stringify(found)))) + "</pre>";
parent.document.documentElement.innerHTML = answer;
