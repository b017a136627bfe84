/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * tar.h - packs the files of a folder into one .tar.gz (POSIX ustar).
 */
#ifndef PT_FLIGHT_TAR_H
#define PT_FLIGHT_TAR_H

/* Makes path, mode 0600, which must not be there: the folder as NAME/, and those of the files (a
 * NULL-terminated list) that are in it as NAME/FILE. 0 or -errno; then path is not there. -EFBIG: a
 * file of 8 GiB or more. */
int pt_tar_gz(const char *folder, const char *name, const char *const *files, const char *path);

#endif
