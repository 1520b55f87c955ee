-- What the plane does by itself, without being asked: its supervised tasks.

local upkeep = require("macp.plane.upkeep")

local M = {}

---Starts the tasks of a role whose parts are all there. The order matters for the end: the last started stops first.
---@param role macp.plane.Role
---@param cfg table
function M.start(role, cfg)
  local tasks = role.supervisor
  role.writers:start(tasks)
  tasks:start("lease", function(child) return role.lease:work(child, role.owner) end)
  tasks:start("enrolment", function() return role.enrolment:work() end)
  tasks:start("audit", function() return role.audit:work() end)
  tasks:start("health", function(child) return role.health:work(child) end)
  tasks:start("session_polls", function() return role.launcher.polls:work() end)
  tasks:start("snapshots", function() return role.hub:work() end)
  tasks:start("questions", function() return role.questions:work() end)
  tasks:start("follower", function() return role.follower:work() end)
  tasks:start("follower.states", function() return role.follower:render_work() end)
  if role.announce then
    tasks:start("announce", function() return role.announce:work() end, { max_backoff_ms = 5000 })
  end
  if role.webhook_worker then
    tasks:start("webhooks", function(child) return role.webhook_worker:work(child) end, { restart = "always",
      max_backoff_ms = 5000, stop = function() role.webhook_worker:stop() end })
  end
  tasks:start("upkeep", function(child) return upkeep.work(role, child, cfg.stream_idle_timeout_ms) end)
  if cfg.run_recovery_enabled then
    tasks:start("recovery", function(child) return role.recovery:work(child) end, { max_backoff_ms = 5000 })
  end
  tasks:start("rebuild", function() return role.rebuild:work() end, { restart = "on_error", max_backoff_ms = 30000 })
  tasks:start("replies", function(child) return role.replies:work(child) end, { max_backoff_ms = 60000 })
  tasks:start("retention", function(child) return role.retention:work(child) end, { max_backoff_ms = 60000 })
  if role.discovery then
    tasks:start("discovery", function(child) return role.discovery:work(child) end, { restart = "always" })
    tasks:start("signals", function(child) return role.signals:work(child) end, { restart = "always" })
  end
end

return M
