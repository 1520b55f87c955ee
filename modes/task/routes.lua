-- Read endpoints of tasks.
local macp = require "macp"

return {
  { "GET /report", summary = "How the task ended, with its output in base64", handler = function(req)
    local report = req.state.terminal_report
    if report == nil then return nil, { "NOT_FOUND", "the task has not ended" } end
    local out = macp.copy(req.view.report)
    if report.Complete then out.output = macp.base64(report.Complete.output) end
    return out
  end },

  { "GET /updates", summary = "The latest updates, newest first", handler = function(req)
    return { count = req.view.update_count, updates = req.view.updates }
  end },

  { "GET /recent", scope = "mode", summary = "How the latest tasks ended", handler = function(req)
    local page, out = req.ask("runs.list", { mode = "macp.mode.task.v1", status = "completed", limit = 20 }), {}
    for _, run in ipairs(page.data) do
      local view = req.ask("runs.view", { id = run.id })
      if view then -- nil: deleted meanwhile
        out[#out + 1] = { run = run.id, status = view.status, task = view.task and view.task.title, report = view.report }
      end
    end
    return macp.array(out)
  end },
}
