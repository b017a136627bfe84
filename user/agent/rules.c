// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* Which rule a process falls under. */
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/config.h"
#include "target/maps.h"
#include "target/process.h"

static bool exe_fits(const char *glob, pid_t pid)
{
	char path[64], exe[PATH_MAX];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	len = readlink(path, exe, sizeof(exe) - 1);
	if (len < 0)
		return false;
	exe[len] = '\0';
	return !fnmatch(glob, exe, 0);
}

/* Lines are HIERARCHY:CONTROLLERS:PATH (cgroups(7)). */
static bool cgroup_fits(const char *glob, pid_t pid)
{
	char path[64], *text, *rest, *line;
	bool fits = false;
	size_t size;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (pt_proc_read(path, 1u << 16, &text, &size))
		return false;
	rest = text;
	while (!fits && (line = strsep(&rest, "\n"))) {
		const char *colon = strchr(line, ':');

		colon = colon ? strchr(colon + 1, ':') : NULL;
		fits = colon && !fnmatch(glob, colon + 1, 0);
	}
	free(text);
	return fits;
}

static bool fits(const struct agent_rule *rule, const struct pt_process *process)
{
	if (rule->has_user && rule->user != process->uid)
		return false;
	if (rule->command && fnmatch(rule->command, process->cmdline ? process->cmdline : "", 0))
		return false;
	if (rule->exe && !exe_fits(rule->exe, process->pid))
		return false;
	return !rule->cgroup || cgroup_fits(rule->cgroup, process->pid);
}

const struct agent_rule *agent_config_rule(const struct agent_config *config,
					   const struct pt_process *process)
{
	for (size_t i = 0; i < config->rule_count; i++)
		if (fits(&config->rules[i], process))
			return &config->rules[i];
	return NULL;
}
