-- Named fault points of the application: where a spec kills the program, to see what a restart finds. They do nothing in
-- builds without faults; how they are armed is told in host/base/fault.h.

local sys = require("host.sys")

---@type fun(name: string): boolean true: behave as if the step had failed
return rawget(sys, "fault_hit") or function() return false end
