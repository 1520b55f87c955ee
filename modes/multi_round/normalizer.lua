-- A contribution updates what the session is about; the value itself is in its payload.
return {
  events = {
    Contribute = { "proposal.updated", label = "Contribute" },
  },
}
