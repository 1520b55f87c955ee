-- The seed of specs that throw dice. An ordinary run has one that never changes, so that two runs of one program throw the
-- same; TEST_SEED=N asks for another, TEST_SEED=random draws one, and so does the long variant (TEST_LONG=1).

local sys = require("host.sys")

local ORDINARY = 20261121

local given = sys.env("TEST_SEED")
if not given and sys.env("TEST_LONG") == "1" then given = "random" end
if given ~= "random" then return given and assert(tonumber(given), "TEST_SEED: a number or `random`") or ORDINARY end
return (sys.now_ms() + sys.pid() * 7919) % 1000000
