/** The same in a page. */

export { Video } from "../src/index";
export { measure } from "./measure";
export { observe } from "./observe";
export { pictures } from "./pictures";
export { ended, play } from "./play";
