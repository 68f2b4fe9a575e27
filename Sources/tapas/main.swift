// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

Program.run().carryOut()
