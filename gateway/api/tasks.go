package api

func (a *API) registerTasks() {}
