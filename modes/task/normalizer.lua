-- Every message of a session concerns its one task. Progress itself is told by events of its own.
local function about(name, vote)
  return { "proposal.updated", id = "task_id", label = name, vote = vote }
end

return {
  events = {
    TaskRequest  = { "proposal.created", id = "task_id", label = "TaskRequest" },
    TaskAccept   = about("TaskAccept", "allow"),
    TaskReject   = about("TaskReject", "deny"),
    TaskUpdate   = about("TaskUpdate"),
    TaskComplete = about("TaskComplete"),
    TaskFail     = about("TaskFail"),
  },
}
