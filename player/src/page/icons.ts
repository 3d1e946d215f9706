/** Paths of icons, in a box of 16 by 16. */

const PATHS = {
  play: "M4 2.5v11l9-5.5z",
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  back: "M3.5 3h2v10h-2zM13 3v10L6 8z",
  on: "M10.5 3h2v10h-2zM3 3v10l7-5z",
  more: "M8 2.2a1.4 1.4 0 110 2.8 1.4 1.4 0 010-2.8zm0 4.4a1.4 1.4 0 110 2.8 1.4 1.4 0 010-2.8zM8 11a1.4 1.4 0 110 2.8A1.4 1.4 0 018 11z",
  full: "M2 2h5v1.6H3.6V7H2zm7 0h5v5h-1.6V3.6H9zM2 9h1.6v3.4H7V14H2zm10.4 0H14v5H9v-1.6h3.4z",
  small: "M5.4 2H7v5H2V5.4h3.4zM9 2h1.6v3.4H14V7H9zM2 9h5v5H5.4v-3.4H2zm7 0h5v1.6h-3.4V14H9z",
};

export type Icon = keyof typeof PATHS;

export const icon = (name: Icon): string =>
  `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${PATHS[name]}"/></svg>`;
