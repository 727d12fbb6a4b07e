/*
 * Calls a fuzz target with the files named, and with those in the directories
 * named: what is known to be worth trying, without a fuzzer.
 */
#include "fuzz.h"

#include <sys/stat.h>

#include <dirent.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From memory of its own, at whose end a reader is caught. */
static void
run_file(const char *path)
{
	struct buf text = { 0 };
	uint8_t *copy;

	if (file_read(path, SIZE_MAX / 2, &text, NULL) == -1)
		err(1, "%s", path);
	(void)setenv("FUZZ_INPUT", path, 1); /* for a debugger */
	copy = mem_alloc(text.len);
	if (text.len > 0)
		memcpy(copy, text.data, text.len);
	(void)LLVMFuzzerTestOneInput(copy, text.len);
	free(copy);
	buf_free(&text);
}

static size_t
run_directory(const char *path)
{
	DIR *dir = opendir(path);
	struct buf file = { 0 };
	struct dirent *entry;
	size_t count = 0;

	if (dir == NULL)
		err(1, "%s", path);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		buf_clear(&file);
		buf_printf(&file, "%s/%s", path, entry->d_name);
		run_file(buf_text(&file));
		count++;
	}
	(void)closedir(dir);
	buf_free(&file);
	return count;
}

int
main(int argc, char **argv)
{
	size_t count = 0;
	struct stat st;
	int i;

	for (i = 1; i < argc; i++) {
		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode)) {
			count += run_directory(argv[i]);
		} else {
			run_file(argv[i]);
			count++;
		}
	}
	(void)printf("%s: %zu inputs\n", argv[0], count);
	return count == 0;
}
