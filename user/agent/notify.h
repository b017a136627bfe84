/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* notify.h - tells the service manager how the agent is doing (sd_notify(3)'s protocol). */
#ifndef PT_AGENT_NOTIFY_H
#define PT_AGENT_NOTIFY_H

/* Sends a state such as "READY=1" to $NOTIFY_SOCKET; without one, nothing. */
void agent_notify(const char *state);

#endif
