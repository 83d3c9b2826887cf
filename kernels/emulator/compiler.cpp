// A libnvrtc that compiles nothing: it makes sure that what it is given is, to the byte, what the
// emulator was built from, and names the module and the budgets of its kernels. So the way from
// sources through the compiler and the cache to the driver runs as it is, without a device.
//
// Environment: EMULATOR_REFUSE, the stem of a file that it refuses as a compiler would.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

typedef int Result;
#define CALL extern "C" __attribute__((visibility("default"))) Result

enum { SUCCESS = 0, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6 };

// A file of kernels/, as it was when the emulator was built.
struct Source {
  const char *name, *begin, *end;
};
extern const Source SOURCES[];  // closed by a null name
struct Program {
  std::string name, text, log, image;
};

static bool same(const char* name, const std::string& text) {
  for (const Source* source = SOURCES; source->name; source++)
    if (!strcmp(source->name, name)) return text == std::string(source->begin, source->end);
  return false;
}

CALL nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 0;
  return SUCCESS;
}
CALL nvrtcCreateProgram(Program** program, const char* text, const char* name, int headers,
                        const char* const* texts, const char* const* names) {
  *program = new Program{name, text, "", ""};
  if (!same(name, text))
    (*program)->log += std::string(name) + " is not what the emulator was built from\n";
  for (int i = 0; i < headers; i++)
    if (!same(names[i], texts[i]))
      (*program)->log += std::string(names[i]) + " is not what the emulator was built from\n";
  return SUCCESS;
}
CALL nvrtcDestroyProgram(Program** program) {
  delete *program;
  *program = nullptr;
  return SUCCESS;
}
CALL nvrtcCompileProgram(Program* program, int count, const char* const* options) {
  std::string stem = program->name.substr(0, program->name.find('.')), type;
  bool architecture = false;
  for (int i = 0; i < count; i++) {
    if (!strcmp(options[i], "-DNUM_F32")) type = "_f32";
    if (!strcmp(options[i], "-DNUM_BF16")) type = "_bf16";
    architecture |= !strncmp(options[i], "--gpu-architecture=sm_", 22);
  }
  if (type.empty() || !architecture) return INVALID_OPTION;
  const char* refused = getenv("EMULATOR_REFUSE");
  if (refused && stem == refused)
    program->log += program->name + "(1): error: this compiler was told to refuse it\n";
  if (!program->log.empty()) return COMPILATION;
  program->image = "emulator " KERNELS_DIGEST " " + stem + type + "\n";
  const std::string budget = "\n// Budget of ";
  for (size_t at = program->text.find(budget); at != std::string::npos;
       at = program->text.find(budget, at + 1)) {
    size_t begin = at + budget.size();
    program->image += program->text.substr(begin, program->text.find('\n', begin) + 1 - begin);
  }
  program->image += '\0';
  return SUCCESS;
}
CALL nvrtcGetProgramLogSize(Program* program, size_t* bytes) {
  *bytes = program->log.size() + 1;
  return SUCCESS;
}
CALL nvrtcGetProgramLog(Program* program, char* log) {
  strcpy(log, program->log.c_str());
  return SUCCESS;
}
CALL nvrtcGetCUBINSize(Program* program, size_t* bytes) {
  *bytes = program->image.size();
  return program->image.empty() ? INVALID_PROGRAM : SUCCESS;
}
CALL nvrtcGetCUBIN(Program* program, char* image) {
  memcpy(image, program->image.data(), program->image.size());
  return SUCCESS;
}
extern "C" __attribute__((visibility("default"))) const char* nvrtcGetErrorString(Result result) {
  return result == COMPILATION ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR";
}
