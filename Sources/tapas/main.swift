// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Engine

Program.run().carryOut()
