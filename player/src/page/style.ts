/** The look of the element, light or dark as the user prefers. */
export const STYLE = `
:host { display: block; position: relative; aspect-ratio: 16 / 9; overflow: hidden; container-type: inline-size; background: var(--ground);
  color: var(--ink); font: 14px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  --ground: #eceef1; --ink: #1b1e23; --dim: #596069; --line: #00000022; --panel: #ffffffee; --hover: #0000000f; --hot: #0b6bcb;
  --live: #d3312c; --track: #00000026; --loaded: #00000033; --check: #dfe2e6; color-scheme: light; }
@media (prefers-color-scheme: dark) { :host { --ground: #0d0e11; --ink: #eceef1; --dim: #a3aab3; --line: #ffffff22;
  --panel: #1a1d22ee; --hover: #ffffff17; --hot: #6cb2ff; --live: #ff6259; --track: #ffffff2e; --loaded: #ffffff4d;
  --check: #17191d; color-scheme: dark; } }
:host(:fullscreen) { aspect-ratio: auto; width: 100%; height: 100%; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.stage { position: absolute; inset: 0 0 auto; height: calc(100% - var(--bar, 0px)); }
.stage.clear { background: repeating-conic-gradient(var(--check) 0 25%, var(--ground) 0 50%) 0 0 / 24px 24px; }
canvas.picture, canvas.sent { position: absolute; inset: 0; width: 100%; height: 100%; }
canvas.picture { touch-action: none; cursor: grab; outline: none; }
canvas.sent { pointer-events: none; }
canvas.picture:active { cursor: grabbing; }
canvas.picture:focus-visible { outline: 2px solid var(--hot); outline-offset: -2px; }
.bar { position: absolute; inset: auto 0 0; background: var(--panel); border-top: 1px solid var(--line);
  padding: 4px 10px max(4px, env(safe-area-inset-bottom)); }
.row { display: flex; align-items: center; gap: 2px; }
.space { flex: 1; }
button, select { font: inherit; color: inherit; background: none; border: 0; border-radius: 8px; height: 36px; min-width: 36px;
  padding: 0 8px; cursor: pointer; }
button:hover, select:hover { background: var(--hover); }
button:focus-visible, select:focus-visible { outline: 2px solid var(--hot); outline-offset: -2px; }
button:disabled { opacity: .4; cursor: default; background: none; }
button svg { display: block; width: 18px; height: 18px; margin: auto; fill: currentColor; }
select { appearance: none; max-width: 170px; text-overflow: ellipsis; } select option { color: #1b1e23; background: #fff; }
.clock { padding: 0 8px; font-variant-numeric: tabular-nums; color: var(--dim); white-space: nowrap; }
.clock b { font-weight: 500; color: var(--ink); }
.live { font-size: 12px; font-weight: 600; letter-spacing: .03em; color: var(--dim); }
.live::before { content: ""; display: inline-block; width: 8px; height: 8px; margin-right: 6px; border-radius: 50%;
  background: currentColor; }
.live[aria-pressed=true] { color: var(--live); }
.track { position: relative; height: 20px; margin: 0 6px; }
.track canvas { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.track input { position: absolute; inset: 0 -6px; width: calc(100% + 12px); height: 100%; margin: 0; opacity: 0; cursor: pointer;
  touch-action: none; }
.track:has(:focus-visible) { outline: 2px solid var(--hot); outline-offset: 2px; border-radius: 4px; }
.panel { position: absolute; background: var(--panel); border: 1px solid var(--line); border-radius: 12px;
  box-shadow: 0 6px 24px #00000033; }
.menu { right: 10px; bottom: calc(var(--bar, 0px) + 10px); width: 250px; max-height: calc(100% - var(--bar, 0px) - 20px);
  overflow: auto; padding: 6px; }
.menu label, .menu button { display: flex; width: 100%; height: 38px; align-items: center; justify-content: space-between; gap: 10px;
  padding: 0 10px; border-radius: 8px; text-align: left; font-weight: 400; }
.menu label:hover { background: var(--hover); }
.menu select { height: 34px; padding: 0 4px; margin-right: -4px; text-align: right; color: var(--dim); max-width: 140px; }
.menu kbd, .keys kbd { font: inherit; color: var(--dim); }
.menu button[aria-pressed=true] { color: var(--hot); font-weight: 600; }
.menu hr, .keys hr { border: 0; border-top: 1px solid var(--line); margin: 6px 10px; }
.facts { left: 10px; top: 10px; margin: 0; padding: 8px 12px; display: grid; grid-template-columns: auto auto; gap: 1px 14px;
  font-size: 12px; font-variant-numeric: tabular-nums; pointer-events: none; }
.facts dt { color: var(--dim); } .facts dd { margin: 0; text-align: right; white-space: nowrap; }
.keys { inset: 0; margin: auto; width: min(480px, calc(100% - 20px)); height: max-content; max-height: calc(100% - 20px);
  overflow: auto; padding: 14px 18px; }
.keys h2 { font-size: 15px; margin: 0 0 8px; }
.keys table { width: 100%; border-spacing: 0 3px; } .keys td:first-child { width: 45%; color: var(--dim); }
.note { left: 50%; bottom: calc(var(--bar, 0px) + 14px); transform: translateX(-50%); padding: 8px 14px; max-width: calc(100% - 20px);
  width: max-content; overflow-wrap: anywhere; }
.note.error { top: 50%; bottom: auto; transform: translate(-50%, -50%); padding: 16px 20px; max-width: min(480px, calc(100% - 20px)); }
.note.error b { display: block; margin-bottom: 4px; }
.busy { position: absolute; left: 50%; top: 50%; width: 34px; height: 34px; margin: -17px; border-radius: 50%;
  border: 3px solid var(--track); border-top-color: var(--ink); animation: spin 1s linear infinite; }
@keyframes spin { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { .busy { animation-duration: 4s; } }
.said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@container (max-width: 560px) { .wide { display: none; } .bar { padding-left: 4px; padding-right: 4px; }
  button { min-width: 40px; height: 40px; } .clock { padding: 0 4px; font-size: 13px; } }
`;
