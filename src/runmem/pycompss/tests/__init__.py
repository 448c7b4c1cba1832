"""`pycompss.tests`: what the test programs of PyCOMPSs import."""
