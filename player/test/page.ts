/** The same in a page. */

export { Video } from "../src/index";
export { observe } from "./observe";
export { pictures } from "./pictures";
export { ended, play } from "./play";
