/* Predicts a structure with a SavedModel of keras_mlff, without Python.

   Usage: predict SAVED_MODEL < STRUCTURE

   STRUCTURE is text: the number of atoms, total charge (e) and spin multiplicity; three lattice
   vectors (Å), all zero for a molecule and zero along a direction that is not periodic; then the
   atomic number and the position (Å) of each atom. Prints the energy (eV), then a force (eV/Å) per
   atom. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

static void require(int condition, const char *message) {
  if (!condition) {
    fprintf(stderr, "predict: %s\n", message);
    exit(1);
  }
}

static void require_ok(const TF_Status *status) {
  require(TF_GetCode(status) == TF_OK, TF_Message(status));
}

/* Finds an input or output of the signature "structure" by the tensor name in the metadata. */
static TF_Output find(TF_Graph *graph, const char *metadata, const char *side, const char *key) {
  char quoted[64], name[256];
  TF_Output tensor = {NULL, 0};
  const char *place = strstr(metadata, "\"structure\": {");
  if (place) place = strstr(place, side);
  snprintf(quoted, sizeof quoted, "\"%s\": {", key);
  if (place) place = strstr(place, quoted);
  if (place) place = strstr(place, "\"tensor\": ");
  if (place && sscanf(place, "\"tensor\": \"%255[^:]:%d", name, &tensor.index) == 2)
    tensor.oper = TF_GraphOperationByName(graph, name);
  require(tensor.oper != NULL, key);
  return tensor;
}

static TF_Tensor *new_tensor(TF_DataType type, int num_dims, const int64_t *dims) {
  int64_t size = TF_DataTypeSize(type);
  for (int i = 0; i < num_dims; i++) size *= dims[i];
  return TF_AllocateTensor(type, dims, num_dims, size);
}

static char *read_text(const char *folder, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  require(file != NULL, path);
  char *text = calloc(1 << 20, 1);
  require(fread(text, 1, (1 << 20) - 1, file) > 0, path);
  fclose(file);
  return text;
}

int main(int argc, char **argv) {
  require(argc == 2, "usage: predict SAVED_MODEL < STRUCTURE");
  const char *tags[] = {"serve"};
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  require_ok(status);
  char *metadata = read_text(argv[1], "assets.extra/metadata.json");

  int num_atoms, spin;
  double charge;
  require(scanf("%d %lf %d", &num_atoms, &charge, &spin) == 3, "cannot read the first line");
  const int64_t matrix[] = {3, 3}, atoms[] = {num_atoms, 3};
  TF_Tensor *values[] = {new_tensor(TF_DOUBLE, 2, atoms),  new_tensor(TF_INT32, 1, atoms),
                         new_tensor(TF_DOUBLE, 2, matrix), new_tensor(TF_BOOL, 1, matrix),
                         new_tensor(TF_DOUBLE, 0, NULL),   new_tensor(TF_INT32, 0, NULL)};
  double *positions = TF_TensorData(values[0]), *cell = TF_TensorData(values[2]);
  int32_t *numbers = TF_TensorData(values[1]);
  unsigned char *pbc = TF_TensorData(values[3]);
  for (int i = 0; i < 3; i++) {
    double *row = cell + 3 * i;
    require(scanf("%lf %lf %lf", row, row + 1, row + 2) == 3, "cannot read the lattice");
    pbc[i] = row[0] != 0 || row[1] != 0 || row[2] != 0;
  }
  for (int i = 0; i < num_atoms; i++) {
    double *row = positions + 3 * i;
    require(scanf("%d %lf %lf %lf", numbers + i, row, row + 1, row + 2) == 4, "cannot read atoms");
  }
  *(double *)TF_TensorData(values[4]) = charge;
  *(int32_t *)TF_TensorData(values[5]) = spin;

  const char *keys[] = {"positions", "atomic_numbers", "cell",
                        "pbc",       "total_charge",   "spin_multiplicity"};
  TF_Output inputs[6], outputs[2];
  for (int i = 0; i < 6; i++) inputs[i] = find(graph, metadata, "\"inputs\"", keys[i]);
  outputs[0] = find(graph, metadata, "\"outputs\"", "energy");
  outputs[1] = find(graph, metadata, "\"outputs\"", "forces");
  TF_Tensor *results[2];
  TF_SessionRun(session, NULL, inputs, values, 6, outputs, results, 2, NULL, 0, NULL, status);
  require_ok(status);

  printf("%.17g\n", *(double *)TF_TensorData(results[0])); /* energies are float64 always */
  int is_double = TF_TensorType(results[1]) == TF_DOUBLE;
  for (int i = 0; i < 3 * num_atoms; i++) {
    double force = is_double ? ((double *)TF_TensorData(results[1]))[i]
                             : ((float *)TF_TensorData(results[1]))[i];
    printf("%.17g%c", force, i % 3 == 2 ? '\n' : ' ');
  }

  for (int i = 0; i < 6; i++) TF_DeleteTensor(values[i]);
  for (int i = 0; i < 2; i++) TF_DeleteTensor(results[i]);
  free(metadata);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
