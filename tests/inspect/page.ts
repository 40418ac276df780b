// The test page: makes the modules under test global, for the tests to call.

import { analyse } from "../../www/app/local/analysis";
import { openLayer } from "../../www/app/local/layer";

Object.assign(globalThis, { analyse, openLayer });
