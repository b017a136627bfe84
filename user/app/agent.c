// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* agent: the daemon. */
#include <malloc.h>
#include <stdio.h>

#include "agent/agent.h"
#include "agent/config.h"
#include "app/verbs.h"
#include "base/log.h"

int app_agent(const struct app_options *options, struct pt_err *err)
{
	struct agent_config *config;
	char cache_dir[4096];
	int rc = agent_config_load(options->config, &config, err);

	/* Each recording has threads of its own. With an arena of malloc's for each of them what is
	 * freed in one serves no other: 60 MB more after some 2000 processes. */
	mallopt(M_ARENA_MAX, 1);
	if (rc)
		return rc;
	if (options->check_config) {
		pt_info("'%s' is right: %zu rule%s, listens on %s", options->config,
			config->rule_count, config->rule_count == 1 ? "" : "s", config->listen);
		agent_config_free(config);
		return 0;
	}
	return agent_run(options->config, config,
			 app_cache_dir(options, cache_dir, sizeof(cache_dir)), err);
}
