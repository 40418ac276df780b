// What the test page has: the modules under test, for the tests to call.

import { openLayer } from "../../www/app/local/layer";

Object.assign(globalThis, { openLayer });
