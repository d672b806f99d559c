// Where this clone's test data lies; the one file of the tests that is compiled with a path.
#include "testing/test_data.h"

namespace phiq {

const char kTestData[] = PHIQ_TEST_DATA;

}  // namespace phiq
