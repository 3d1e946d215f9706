/** Defines the element `inv-player`. */

import { InvPlayer } from "./player";

customElements.define("inv-player", InvPlayer);
