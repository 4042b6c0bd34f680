/* SPDX-License-Identifier: BSD-2-Clause */
/* From log.* to base/log.h. */
#include "vmm/logging.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/util.h"
#include "vmm/config.h"

void
logging_set_level(const struct config *c)
{
	static const char *const names[] = {
	    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(names[i], config_get(c, "log.level")) == 0)
			log_set_level((enum log_level)i);
}

int
logging_init(const struct config *c, struct err *err)
{
	const char *path = config_get(c, "log.path");
	int fd = STDERR_FILENO;

	if (path != NULL) {
		/* O_NONBLOCK: a FIFO that nobody reads must not hold the VM up; for a file it means nothing.
		 */
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
		if (fd < 0)
			return err_set(err, errno,
				       "log.path: %s: %s (is the folder there, and may you write in it?)",
				       path, strerror(errno));
	}
	log_set_output(fd, config_bool(c, "log.json") ? LOG_JSON : LOG_TEXT);
	logging_set_level(c);
	return 0;
}
