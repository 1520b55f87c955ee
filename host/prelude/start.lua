-- The first function of the program: hands the arguments to the application and its answer to the system.

return function()
  local sys = require("host.sys")
  local code = require("macp.main").run({ unpack(sys.argv, 1) })
  sys.exit(code)
end
