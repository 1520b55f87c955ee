-- Deliveries about the task carry who has it and whether it has ended, next to the event's own data.
local macp = require "macp"

return {
  shape = function(event, s)
    local data, report = macp.copy(event.data or {}), s.terminal_report
    data.task = { id = s.task and s.task.task_id, assignee = s.active_assignee, updates = #s.updates,
      outcome = report and (report.Complete and "completed" or "failed") or nil }
    return data
  end,
}
